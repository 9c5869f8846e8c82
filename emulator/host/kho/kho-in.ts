/**
 * Kexec Handover, incoming side: what the kernel before left, read from memory and from nothing else.
 *
 * Source: Linux kernel/liveupdate/kexec_handover.c: kho_populate(), kho_restore_page(), kho_retrieve_subtree().
 * Invariant: a preserved page can be restored once; its struct page carries KHO's magic until then, and the page
 * allocator never hands it out before.
 * DEVIATION: where Linux returns NULL after a WARN, restore calls refuse with EINVAL and report the warning.
 */
import type { PhysicalBytes } from '../../memory/physical-memory.js';
import type { HostEvents } from '../events.js';
import {
  blocksOf,
  framesOfBlock,
  hpaOf,
  mergeFrames,
  overlap,
  pfnOf,
  type Block,
  type FrameRange,
} from '../frames.js';
import type { PageAllocator, PageRun } from '../page-allocator.js';
import { DONE, ok, refuse, type Result } from '../result.js';
import { isPageOf, readBlocks } from './block-set.js';
import { childOf, decodeFdt, FdtError, stringOf, u64Of, type FdtNode } from './fdt.js';
import {
  decodeMapEntry,
  KHO_COMPATIBLE,
  KHO_MEMORY_MAP_PROPERTY,
  KHO_SUBTREE_PROPERTY,
  MEMORY_MAP_ENTRY_BYTES,
  readKhoData,
} from './kho-abi.js';
import { readChunks, type KhoVmalloc } from './vmalloc.js';

/** `KHOP`, what marks the struct page of a preserved block until it is restored. */
export const KHO_PAGE_MAGIC = 0x4b48_4f50;

/** struct page of a preserved block's head. */
export interface KhoPageInfo {
  readonly pfn: number;
  readonly order: number;
  readonly magic: number;
}

/** The incoming side as plain data; what it read from memory is read again. */
export interface KhoInState {
  readonly pages: readonly KhoPageInfo[];
}

/** What kho_populate() found. */
export interface Populated {
  readonly root: FdtNode;
  readonly scratch: readonly FrameRange[];
  readonly blocks: readonly Block[];
}

/**
 * kho_populate(): follows the setup_data list at `handover` to tree, scratch and memory map.
 *
 * Errnos: ENOENT no KHO entry; EINVAL an entry, tree or map that cannot be right, or preserved pages in scratch.
 */
export function khoPopulate(memory: PhysicalBytes, handover: bigint): Result<Populated> {
  const data = readKhoData(memory, handover);
  if (data === undefined) return refuse('ENOENT');
  const root = readTree(memory, data.fdt, data.fdtBytes);
  if (root === undefined || stringOf(root, 'compatible') !== KHO_COMPATIBLE)
    return refuse('EINVAL');
  const map = u64Of(root, KHO_MEMORY_MAP_PROPERTY);
  if (map === undefined || map === 0n) return refuse('EINVAL');
  const read = readBlocks(memory, map, MEMORY_MAP_ENTRY_BYTES);
  if (!read.ok) return read;
  const blocks: Block[] = [];
  for (const entry of read.value.entries) {
    const block = decodeMapEntry(memory, entry);
    if (block === undefined) return refuse('EINVAL');
    if (data.scratch.some((scratch) => overlap(scratch, framesOfBlock(block)))) {
      return refuse('EINVAL');
    }
    blocks.push(block);
  }
  return ok({ root, scratch: data.scratch, blocks });
}

export class KhoIn {
  readonly isKhoBoot: boolean;
  readonly #memory: PhysicalBytes;
  readonly #allocator: PageAllocator;
  readonly #events: HostEvents;
  readonly #root: FdtNode | undefined;
  readonly #blocks: readonly Block[];
  readonly #pages = new Map<number, KhoPageInfo>();

  /** `populated` is undefined on a cold boot. */
  constructor(
    memory: PhysicalBytes,
    allocator: PageAllocator,
    events: HostEvents,
    populated: Populated | undefined,
  ) {
    this.isKhoBoot = populated !== undefined;
    this.#memory = memory;
    this.#allocator = allocator;
    this.#events = events;
    this.#root = populated?.root;
    this.#blocks = populated?.blocks ?? [];
    for (const block of this.#blocks) {
      this.#pages.set(block.pfn, { ...block, magic: KHO_PAGE_MAGIC });
    }
  }

  /** Every frame that the kernel before preserved. */
  preservedFrames(): FrameRange[] {
    return mergeFrames(this.#blocks.map(framesOfBlock));
  }

  /** Frames that nobody has restored yet: they stay reserved, and are lost at the next kexec. */
  unrestoredFrames(): FrameRange[] {
    return mergeFrames([...this.#pages.values()].map(framesOfBlock));
  }

  /** kho_retrieve_subtree(). Errnos: ENOENT no KHO boot or no such name; EINVAL a value that is no address. */
  retrieveSubtree(name: string): Result<bigint> {
    const node = this.#root === undefined ? undefined : childOf(this.#root, name);
    if (node === undefined) return refuse('ENOENT');
    const hpa = u64Of(node, KHO_SUBTREE_PROPERTY);
    return hpa === undefined || !isPageOf(this.#memory, hpa) ? refuse('EINVAL') : ok(hpa);
  }

  /** kho_restore_folio(). Errnos: EINVAL no magic: never preserved, or restored already. */
  restoreFolio(hpa: bigint, label = 'restored folio'): Result<PageRun> {
    const block = this.#takePage(hpa);
    return block.ok ? ok(this.#allocator.adopt(framesOfBlock(block.value), label)) : block;
  }

  /** kho_restore_pages(), with the range that was preserved. Errnos: EINVAL no magic. */
  restorePages(range: FrameRange, label = 'restored pages'): Result<PageRun> {
    for (const block of blocksOf(range)) {
      const page = this.#takePage(hpaOf(block.pfn));
      if (!page.ok) return page;
      if (page.value.order !== block.order) return refuse('EINVAL');
    }
    return ok(this.#allocator.adopt(range, label));
  }

  /** kho_restore_vmalloc(): the frames in order; the chunks are freed. Errnos: EINVAL a broken chain, no magic. */
  restoreVmalloc(area: KhoVmalloc, label = 'restored vmalloc'): Result<readonly number[]> {
    const chain = readChunks(this.#memory, area.first);
    if (chain?.pfns.length !== area.totalPages || area.order !== 0) return refuse('EINVAL');
    for (const start of chain.pfns) {
      const page = this.restorePages({ start, count: 1 }, label);
      if (!page.ok) return page;
    }
    for (const chunk of chain.chunks) {
      const freed = this.restoreFree(chunk);
      if (!freed.ok) return freed;
    }
    return ok(chain.pfns);
  }

  /** kho_restore_free(): restores what kho_alloc_preserve() made and frees it. Errnos: EINVAL no magic. */
  restoreFree(hpa: bigint): Result<void> {
    const folio = this.restoreFolio(hpa);
    if (!folio.ok) return folio;
    this.#allocator.free(folio.value.hpa);
    return DONE;
  }

  state(): KhoInState {
    return structuredClone({ pages: [...this.#pages.values()] });
  }

  /** Goes back to where `state` was taken. */
  restore(state: KhoInState): void {
    this.#pages.clear();
    for (const page of state.pages) this.#pages.set(page.pfn, page);
  }

  #takePage(hpa: bigint): Result<Block> {
    const pfn = pfnOf(hpa);
    const page = this.#pages.get(pfn);
    if (page?.magic !== KHO_PAGE_MAGIC) {
      this.#events.onWarn(
        'kho_restore_page',
        `frame ${pfn} has no magic: restored twice, or never preserved`,
      );
      return refuse('EINVAL');
    }
    this.#pages.delete(pfn);
    return ok({ pfn, order: page.order });
  }
}

/** Reads a tree from memory, undefined where there is none. */
export function readTree(
  memory: PhysicalBytes,
  hpa: bigint,
  sizeBytes: number,
): FdtNode | undefined {
  try {
    return decodeFdt(memory.read(hpa, sizeBytes));
  } catch (error) {
    if (error instanceof FdtError) return undefined;
    throw error;
  }
}
