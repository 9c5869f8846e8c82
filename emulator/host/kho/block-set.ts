/**
 * Serialization blocks: a chain of one-page blocks that carries equal-sized entries across kexec.
 *
 * Source: Linux include/linux/kho/abi/block.h, kernel/liveupdate/kho_block.c.
 * ABI: a block is {u64 next, u64 count} and `count` entries; `next` is a physical address, 0 ends the chain.
 * Invariant: blocks are KHO-preserved from grow() on; reading stops at the first block that cannot be one.
 */
import { toIndex, u64 } from '../../../abi/uint.js';
import { PAGE_SIZE, type PhysicalBytes } from '../../memory/physical-memory.js';
import { DONE, ok, refuse, type Result } from '../result.js';
import type { KhoOut } from './kho-out.js';

const HEADER_BYTES = 16;

/** Entries of `entryBytes` that one block holds. */
export function entriesPerBlock(entryBytes: number): number {
  return Math.floor((PAGE_SIZE - HEADER_BYTES) / entryBytes);
}

/** The blocks that a kernel fills for the next one. */
export class BlockSet {
  readonly entryBytes: number;
  readonly #memory: PhysicalBytes;
  readonly #kho: KhoOut;
  readonly #label: string;
  #blocks: bigint[];

  /** `blocks` continues a set whose state was taken. */
  constructor(
    memory: PhysicalBytes,
    kho: KhoOut,
    entryBytes: number,
    label: string,
    blocks: readonly bigint[] = [],
  ) {
    this.#memory = memory;
    this.#kho = kho;
    this.entryBytes = entryBytes;
    this.#label = label;
    this.#blocks = [...blocks];
  }

  /** Addresses of the blocks, first to last. */
  get blocks(): readonly bigint[] {
    return this.#blocks;
  }

  /** The first block, 0 where there is none. */
  get head(): bigint {
    return this.#blocks[0] ?? 0n;
  }

  /** Makes room for `count` entries. Errnos: those of KhoOut.allocPreserve(). */
  grow(count: number): Result<void> {
    while (this.#blocks.length * entriesPerBlock(this.entryBytes) < count) {
      const page = this.#kho.allocPreserve(PAGE_SIZE, this.#label);
      if (!page.ok) return page;
      this.#blocks.push(page.value.hpa);
    }
    return DONE;
  }

  /** Gives back the blocks that `count` entries do not need. */
  shrink(count: number): void {
    const needed = Math.ceil(count / entriesPerBlock(this.entryBytes));
    for (const block of this.#blocks.splice(needed)) this.#kho.unpreserveFree(block);
  }

  /** Writes all entries and the links. Errnos: ENOSPC without room for them. */
  write(entries: readonly Uint8Array[]): Result<void> {
    const perBlock = entriesPerBlock(this.entryBytes);
    if (entries.length > this.#blocks.length * perBlock) return refuse('ENOSPC');
    this.#blocks.forEach((block, index) => {
      const part = entries.slice(index * perBlock, (index + 1) * perBlock);
      this.#memory.writeU64(block, this.#blocks[index + 1] ?? 0n);
      this.#memory.writeU64(block + 8n, u64(part.length));
      part.forEach((entry, slot) => {
        this.#memory.write(block + u64(HEADER_BYTES + slot * this.entryBytes), entry);
      });
    });
    return DONE;
  }
}

/** What a chain held, and the blocks that held it. */
export interface ReadBlocks {
  readonly entries: readonly Uint8Array[];
  readonly blocks: readonly bigint[];
}

/** Reads the chain that begins at `head`. Errnos: EINVAL an address, count or link that cannot be right. */
export function readBlocks(
  memory: PhysicalBytes,
  head: bigint,
  entryBytes: number,
): Result<ReadBlocks> {
  const entries: Uint8Array[] = [];
  const blocks: bigint[] = [];
  for (let block = head; block !== 0n; block = memory.readU64(block)) {
    if (!isPageOf(memory, block) || blocks.includes(block)) return refuse('EINVAL');
    const count = memory.readU64(block + 8n);
    if (count > u64(entriesPerBlock(entryBytes))) return refuse('EINVAL');
    blocks.push(block);
    for (let slot = 0; slot < toIndex(count); slot++) {
      entries.push(memory.read(block + u64(HEADER_BYTES + slot * entryBytes), entryBytes));
    }
  }
  return ok({ entries, blocks });
}

/** Whether a whole page of memory begins at `hpa`. */
export function isPageOf(memory: PhysicalBytes, hpa: bigint): boolean {
  return hpa % u64(PAGE_SIZE) === 0n && hpa + u64(PAGE_SIZE) <= u64(memory.sizeBytes);
}
