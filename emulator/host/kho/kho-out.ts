/**
 * Kexec Handover, outgoing side: which pages survive, and the tree that tells the next kernel.
 *
 * Source: Linux kernel/liveupdate/kexec_handover.c; Documentation/core-api/kho.
 * Invariant: a preserved page never lies in scratch; after finalize() everything the next kernel needs is bytes in
 * preserved pages, and nothing can be preserved or unpreserved until abort().
 * Not modelled: debugfs of KHO, memblock reservations (reserve_mem), NUMA.
 */
import { u64 } from '../../../abi/uint.js';
import type { Owner, PhysicalBytes } from '../../memory/physical-memory.js';
import { PAGE_SIZE } from '../../memory/physical-memory.js';
import type { HostEvents } from '../events.js';
import {
  blocksOf,
  framesOfBlock,
  MAX_PAGE_ORDER,
  mergeFrames,
  orderFor,
  overlap,
  pagesFor,
  pfnOf,
  type Block,
  type FrameRange,
} from '../frames.js';
import type { PageAllocator, PageRun } from '../page-allocator.js';
import { DONE, ok, refuse, type Result } from '../result.js';
import { BlockSet } from './block-set.js';
import { encodeFdt, stringProperty, u64Property, type FdtNode } from './fdt.js';
import {
  encodeMapEntry,
  KHO_COMPATIBLE,
  KHO_MEMORY_MAP_PROPERTY,
  KHO_SUBTREE_PROPERTY,
  MEMORY_MAP_ENTRY_BYTES,
  type KhoData,
} from './kho-abi.js';
import {
  KHO_VMALLOC_ALLOC,
  readChunks,
  VMALLOC_CHUNK_ENTRIES,
  writeChunk,
  type KhoVmalloc,
} from './vmalloc.js';

interface Subtree {
  readonly name: string;
  readonly hpa: bigint;
}

/** The outgoing side as plain data. */
export interface KhoOutState {
  readonly preserved: readonly Block[];
  readonly subtrees: readonly Subtree[];
  readonly fdt: PageRun | null;
  readonly fdtBytes: number;
  readonly mapBlocks: readonly bigint[];
}

export class KhoOut {
  readonly enabled: boolean;
  readonly scratch: readonly FrameRange[];
  readonly #memory: PhysicalBytes;
  readonly #allocator: PageAllocator;
  readonly #events: HostEvents;
  readonly #preserved = new Map<number, number>();
  /** The same as ranges in order that do not touch, null until somebody asks. */
  #frames: FrameRange[] | null = null;
  #subtrees: Subtree[] = [];
  #fdt: PageRun | null = null;
  #fdtBytes = 0;
  #mapBlocks: readonly bigint[] = [];

  constructor(
    memory: PhysicalBytes,
    allocator: PageAllocator,
    scratch: readonly FrameRange[],
    events: HostEvents,
    enabled = true,
  ) {
    this.enabled = enabled;
    this.scratch = mergeFrames(scratch);
    this.#memory = memory;
    this.#allocator = allocator;
    this.#events = events;
  }

  get finalized(): boolean {
    return this.#fdtBytes > 0;
  }

  /** kho_preserve_pages(). Errnos: EOPNOTSUPP disabled; EBUSY finalized; EINVAL a page in scratch. */
  preservePages(range: FrameRange): Result<void> {
    return this.#preserve(range, blocksOf(range));
  }

  /** kho_unpreserve_pages(), with the range that was preserved. Errnos: EBUSY finalized; ENOENT not preserved. */
  unpreservePages(range: FrameRange): Result<void> {
    return this.#unpreserve(blocksOf(range));
  }

  /** kho_preserve_folio(): the block is restored as one. Errnos: those of preservePages(), EINVAL not aligned. */
  preserveFolio(block: Block): Result<void> {
    if (block.pfn % 2 ** block.order !== 0 || block.order > MAX_PAGE_ORDER) return refuse('EINVAL');
    return this.#preserve(framesOfBlock(block), [block]);
  }

  /** kho_unpreserve_folio(). Errnos: EBUSY finalized; ENOENT not preserved. */
  unpreserveFolio(block: Block): Result<void> {
    return this.#unpreserve([block]);
  }

  /** kho_preserve_vmalloc(): scattered pages. Errnos: ENOMEM, and those of preservePages(). */
  preserveVmalloc(pfns: readonly number[]): Result<KhoVmalloc> {
    const chunks: PageRun[] = [];
    const done: number[] = [];
    const undo = (): void => {
      for (const pfn of done) this.unpreservePages({ start: pfn, count: 1 });
      for (const chunk of chunks) this.unpreserveFree(chunk.hpa);
    };
    for (let at = 0; at === 0 || at < pfns.length; at += VMALLOC_CHUNK_ENTRIES) {
      const chunk = this.allocPreserve(PAGE_SIZE, 'KHO vmalloc chunk');
      if (!chunk.ok) {
        undo();
        return chunk;
      }
      chunks.push(chunk.value);
    }
    for (const pfn of pfns) {
      const page = this.preservePages({ start: pfn, count: 1 });
      if (!page.ok) {
        undo();
        return page;
      }
      done.push(pfn);
    }
    chunks.forEach((chunk, index) => {
      const from = index * VMALLOC_CHUNK_ENTRIES;
      const part = pfns.slice(from, from + VMALLOC_CHUNK_ENTRIES);
      writeChunk(this.#memory, chunk.hpa, chunks[index + 1]?.hpa ?? 0n, part);
    });
    const first = chunks[0]?.hpa ?? 0n;
    return ok({ first, totalPages: pfns.length, flags: KHO_VMALLOC_ALLOC, order: 0 });
  }

  /** kho_unpreserve_vmalloc(); the pages stay allocated. Errnos: EBUSY finalized; EINVAL a broken chain. */
  unpreserveVmalloc(area: KhoVmalloc): Result<void> {
    if (this.finalized) return refuse('EBUSY');
    const chain = readChunks(this.#memory, area.first);
    if (chain === undefined) return refuse('EINVAL');
    for (const pfn of chain.pfns) this.unpreservePages({ start: pfn, count: 1 });
    for (const chunk of chain.chunks) this.unpreserveFree(chunk);
    return DONE;
  }

  /**
   * kho_alloc_preserve(): zeroed, contiguous, rounded up to a power of two of pages.
   *
   * Errnos: EINVAL size 0; E2BIG more than the largest order; ENOMEM; EBUSY finalized.
   */
  allocPreserve(sizeBytes: number, label: string, owner?: Owner): Result<PageRun> {
    if (sizeBytes <= 0) return refuse('EINVAL');
    const order = orderFor(pagesFor(sizeBytes));
    if (order > MAX_PAGE_ORDER) return refuse('E2BIG');
    const pages = 2 ** order;
    const run = this.#allocator.allocZeroed({
      pages,
      align: pages,
      label,
      ...(owner === undefined ? {} : { owner }),
    });
    if (!run.ok) return run;
    const kept = this.preserveFolio({ pfn: run.value.pfn, order });
    if (kept.ok) return run;
    this.#allocator.free(run.value.hpa);
    return kept;
  }

  /** kho_unpreserve_free() of what allocPreserve() gave. Errnos: EBUSY finalized; ENOENT not preserved. */
  unpreserveFree(hpa: bigint): Result<void> {
    const order = this.#preserved.get(pfnOf(hpa));
    if (order === undefined) return refuse('ENOENT');
    const done = this.unpreserveFolio({ pfn: pfnOf(hpa), order });
    if (done.ok) this.#allocator.free(hpa);
    return done;
  }

  /** kho_add_subtree(): hands a blob over under a name. Errnos: EEXIST; EBUSY finalized; ENOMEM one page is full. */
  addSubtree(name: string, hpa: bigint): Result<void> {
    if (this.finalized) return refuse('EBUSY');
    if (this.#subtrees.some((subtree) => subtree.name === name)) return refuse('EEXIST');
    const subtrees = [...this.#subtrees, { name, hpa }];
    if (encodeFdt(rootTree(0n, subtrees)).length > PAGE_SIZE) return refuse('ENOMEM');
    this.#subtrees = subtrees;
    return DONE;
  }

  /** kho_remove_subtree(), by the blob's address; nothing happens when there is none. */
  removeSubtree(hpa: bigint): void {
    this.#subtrees = this.#subtrees.filter((subtree) => subtree.hpa !== hpa);
  }

  /** Writes map and tree. Errnos: EOPNOTSUPP disabled; EEXIST finalized already; ENOMEM, and then nothing changed. */
  finalize(): Result<void> {
    if (!this.enabled) return refuse('EOPNOTSUPP');
    if (this.finalized) return refuse('EEXIST');
    const fdt = this.allocPreserve(PAGE_SIZE, 'KHO device tree');
    if (!fdt.ok) return fdt;
    const map = new BlockSet(this.#memory, this, MEMORY_MAP_ENTRY_BYTES, 'KHO memory map');
    // Each block of the map is preserved too and so needs an entry of its own.
    for (let room = -1; room < this.#preserved.size;) {
      room = this.#preserved.size;
      const grown = map.grow(room);
      if (grown.ok) continue;
      map.shrink(0);
      this.unpreserveFree(fdt.value.hpa);
      return grown;
    }
    map.write(this.#blocks().map(encodeMapEntry));
    const tree = encodeFdt(rootTree(map.head, this.#subtrees));
    this.#memory.write(fdt.value.hpa, tree);
    this.#fdt = fdt.value;
    this.#fdtBytes = tree.length;
    this.#mapBlocks = map.blocks;
    return DONE;
  }

  /** Takes finalize() back, for a reboot that does not happen after all. */
  abort(): void {
    const fdt = this.#fdt;
    if (fdt === null) return;
    this.#fdt = null;
    this.#fdtBytes = 0;
    for (const hpa of [...this.#mapBlocks, fdt.hpa]) this.unpreserveFree(hpa);
    this.#mapBlocks = [];
  }

  /** What the next kernel must be told, once finalized. */
  handover(): KhoData | undefined {
    if (this.#fdt === null) return undefined;
    return { fdt: this.#fdt.hpa, fdtBytes: this.#fdtBytes, scratch: this.scratch };
  }

  /** All preserved frames. */
  preservedFrames(): FrameRange[] {
    return [...this.#ranges()];
  }

  /** Whether every page that holds a byte of `[hpa, hpa + sizeBytes)` is preserved. */
  isPreserved(hpa: bigint, sizeBytes = 1): boolean {
    const start = pfnOf(hpa);
    const end = pfnOf(hpa + u64(Math.max(sizeBytes, 1) - 1));
    const range = lastFrom(this.#ranges(), start);
    return range !== undefined && end < range.start + range.count;
  }

  state(): KhoOutState {
    return structuredClone({
      preserved: this.#blocks(),
      subtrees: this.#subtrees,
      fdt: this.#fdt,
      fdtBytes: this.#fdtBytes,
      mapBlocks: this.#mapBlocks,
    });
  }

  /** Goes back to where `state` was taken. */
  restore(state: KhoOutState): void {
    this.#frames = null;
    this.#preserved.clear();
    for (const block of state.preserved) this.#preserved.set(block.pfn, block.order);
    this.#subtrees = [...state.subtrees];
    this.#fdt = state.fdt;
    this.#fdtBytes = state.fdtBytes;
    this.#mapBlocks = [...state.mapBlocks];
  }

  #ranges(): readonly FrameRange[] {
    return (this.#frames ??= mergeFrames(this.#blocks().map(framesOfBlock)));
  }

  #blocks(): Block[] {
    return [...this.#preserved]
      .map(([pfn, order]) => ({ pfn, order }))
      .sort((a, b) => a.pfn - b.pfn);
  }

  #preserve(range: FrameRange, blocks: readonly Block[]): Result<void> {
    if (!this.enabled) return refuse('EOPNOTSUPP');
    if (this.finalized) return refuse('EBUSY');
    if (this.scratch.some((scratch) => overlap(scratch, range))) {
      this.#events.onWarn('kho_preserve_pages', `frames ${range.start}+${range.count} in scratch`);
      return refuse('EINVAL');
    }
    this.#frames = null;
    for (const { pfn, order } of blocks) {
      if (this.#preserved.has(pfn)) {
        this.#events.onWarn('kho_preserve_pages', `frame ${pfn} is preserved twice`);
      }
      this.#preserved.set(pfn, order);
    }
    return DONE;
  }

  #unpreserve(blocks: readonly Block[]): Result<void> {
    if (this.finalized) return refuse('EBUSY');
    const missing = blocks.find(({ pfn, order }) => this.#preserved.get(pfn) !== order);
    if (missing !== undefined) {
      this.#events.onWarn('kho_unpreserve_pages', `frame ${missing.pfn} is not preserved so`);
      return refuse('ENOENT');
    }
    this.#frames = null;
    for (const { pfn } of blocks) this.#preserved.delete(pfn);
    return DONE;
  }
}

/** The last of the ranges, which are in order, that begins at a frame or below it. */
function lastFrom(ranges: readonly FrameRange[], frame: number): FrameRange | undefined {
  let from = 0;
  let to = ranges.length;
  while (from < to) {
    const middle = (from + to) >>> 1;
    if (ranges[middle]!.start <= frame) from = middle + 1;
    else to = middle;
  }
  return ranges[from - 1];
}

function rootTree(map: bigint, subtrees: readonly Subtree[]): FdtNode {
  return {
    name: '',
    properties: [
      stringProperty('compatible', KHO_COMPATIBLE),
      u64Property(KHO_MEMORY_MAP_PROPERTY, map),
    ],
    children: subtrees.map(({ name, hpa }) => ({
      name,
      properties: [u64Property(KHO_SUBTREE_PROPERTY, hpa)],
      children: [],
    })),
  };
}
