/**
 * A kernel's physical page allocator: first fit over sorted free ranges.
 *
 * Source: Linux mm/page_alloc.c for what callers may rely on; Documentation/core-api/kho for scratch memory.
 * Invariant: an allocation is contiguous and aligned, is one claim in PhysicalMemory, and lies outside scratch unless
 * it is movable or made before the page allocator is up; freed pages hold PAGE_POISON.
 * Not modelled: zones, NUMA nodes, watermarks, per-CPU lists.
 */
import { HarnessBug } from '../../abi/errors.js';
import { hex } from '../../abi/uint.js';
import type { Owner, PhysicalMemory } from '../memory/physical-memory.js';
import { PAGE_SIZE } from '../memory/physical-memory.js';
import {
  contains,
  hpaOf,
  intersectFrames,
  mergeFrames,
  overlap,
  pfnOf,
  subtractFrames,
  type FrameRange,
} from './frames.js';
import { carveClaims, claimFrames } from './memory-claims.js';
import { ok, refuse, type Result } from './result.js';

/** What every byte of a freed page holds (Linux include/linux/poison.h). */
export const PAGE_POISON = 0xaa;

/** What a caller asks for; `align` is in pages and a power of two. */
export interface PageRequest {
  readonly pages: number;
  readonly label: string;
  readonly align?: number;
  /** The first byte, where nothing else will do. */
  readonly at?: bigint;
  /** Whose pages they become; the kernel's own unless said otherwise. */
  readonly owner?: Owner;
  /** Movable pages may lie in scratch, and then cannot be handed over. */
  readonly movable?: boolean;
}

/** An allocation: `count` pages from `hpa`. */
export interface PageRun {
  readonly hpa: bigint;
  readonly pfn: number;
  readonly count: number;
}

/** An allocation as the allocator's state lists it. */
export interface Allocation extends FrameRange {
  readonly owner: Owner;
  readonly label: string;
}

/** The allocator as plain data; the claims in PhysicalMemory are that memory's own state. */
export interface PageAllocatorState {
  readonly up: boolean;
  readonly free: readonly FrameRange[];
  readonly freeScratch: readonly FrameRange[];
  readonly allocations: readonly Allocation[];
}

export class PageAllocator {
  readonly #memory: PhysicalMemory;
  readonly #owner: Owner;
  readonly #scratch: readonly FrameRange[];
  #up = false;
  #free: FrameRange[] = [];
  #freeScratch: FrameRange[];
  readonly #allocations = new Map<number, Allocation>();

  /** Before bringUp() only `scratch`, without `reserved`, is there to allocate from. */
  constructor(
    memory: PhysicalMemory,
    owner: Owner,
    scratch: readonly FrameRange[],
    reserved: readonly FrameRange[],
  ) {
    this.#memory = memory;
    this.#owner = owner;
    this.#scratch = mergeFrames(scratch);
    this.#freeScratch = subtractFrames(scratch, reserved);
  }

  /** Adds the kernel's memory: everything managed but scratch and what is reserved. */
  bringUp(managed: FrameRange, reserved: readonly FrameRange[]): void {
    if (this.#up) throw new HarnessBug('the page allocator is up already');
    this.#up = true;
    this.#free = subtractFrames([managed], [...this.#scratch, ...reserved]);
  }

  /**
   * Contiguous pages; their content is what it was.
   *
   * Errnos: EINVAL no pages or an alignment that is no power of two; ENOMEM no free range is long enough.
   */
  alloc(request: PageRequest): Result<PageRun> {
    const { pages, align = 1 } = request;
    if (!Number.isSafeInteger(pages) || pages < 1) return refuse('EINVAL');
    if (align < 1 || 2 ** Math.round(Math.log2(align)) !== align) return refuse('EINVAL');
    const early = !this.#up;
    if (request.at !== undefined) return this.#allocAt(request, request.at);
    let pfn = early ? undefined : firstFit(this.#free, pages, align);
    if (pfn === undefined && (early || request.movable === true)) {
      pfn = firstFit(this.#freeScratch, pages, align);
    }
    if (pfn === undefined) return refuse('ENOMEM');
    const range = { start: pfn, count: pages };
    this.#free = subtractFrames(this.#free, [range]);
    this.#freeScratch = subtractFrames(this.#freeScratch, [range]);
    return ok(this.#record(range, request.owner ?? this.#owner, request.label));
  }

  /** As Linux' alloc_contig_range() for one place. Errnos: ENOMEM a page of it is not free. */
  #allocAt({ pages, owner, label }: PageRequest, at: bigint): Result<PageRun> {
    const range = { start: pfnOf(at), count: pages };
    if (!this.#free.some((free) => contains(free, range))) return refuse('ENOMEM');
    this.#free = subtractFrames(this.#free, [range]);
    return ok(this.#record(range, owner ?? this.#owner, label));
  }

  /** As alloc(), with every byte zero. Errnos: those of alloc(). */
  allocZeroed(request: PageRequest): Result<PageRun> {
    const run = this.alloc(request);
    if (run.ok) this.#memory.fill(run.value.hpa, run.value.count * PAGE_SIZE, 0);
    return run;
  }

  /** Gives back a whole allocation by its first byte and poisons it. @throws HarnessBug when there is none. */
  free(hpa: bigint): void {
    const allocation = this.#allocations.get(pfnOf(hpa));
    if (allocation === undefined) throw new HarnessBug(`nothing allocated at ${hex(hpa)}`);
    this.#allocations.delete(allocation.start);
    this.#memory.fill(hpa, allocation.count * PAGE_SIZE, PAGE_POISON);
    carveClaims(this.#memory, allocation);
    const inScratch = intersectFrames([allocation], this.#scratch);
    for (const part of inScratch) claimFrames(this.#memory, part, 'kho-scratch', 'KHO scratch');
    this.#freeScratch = mergeFrames([...this.#freeScratch, ...inScratch]);
    const outside = subtractFrames([allocation], inScratch);
    if (this.#up) this.#free = mergeFrames([...this.#free, ...outside]);
  }

  /** Makes pages that were reserved, as restored ones are, an allocation like any other; owner and content stay. */
  adopt(range: FrameRange, label: string): PageRun {
    if (this.#free.some((free) => overlap(free, range))) {
      throw new HarnessBug(`frames ${range.start}+${range.count} are free, not reserved`);
    }
    const owner = this.#memory.regionAt(range.start * PAGE_SIZE)?.owner ?? this.#owner;
    return this.#record(range, owner, label);
  }

  /** The allocation that holds an address. */
  allocationAt(hpa: bigint): Allocation | undefined {
    const one = { start: pfnOf(hpa), count: 1 };
    return [...this.#allocations.values()].find((allocation) => contains(allocation, one));
  }

  /** Free pages outside scratch. */
  freePages(): number {
    return this.#free.reduce((sum, range) => sum + range.count, 0);
  }

  state(): PageAllocatorState {
    return structuredClone({
      up: this.#up,
      free: this.#free,
      freeScratch: this.#freeScratch,
      allocations: [...this.#allocations.values()],
    });
  }

  /** Goes back to where `state` was taken. */
  restore(state: PageAllocatorState): void {
    const { up, free, freeScratch, allocations } = structuredClone(state);
    this.#up = up;
    this.#free = [...free];
    this.#freeScratch = [...freeScratch];
    this.#allocations.clear();
    for (const allocation of allocations) this.#allocations.set(allocation.start, allocation);
  }

  #record(range: FrameRange, owner: Owner, label: string): PageRun {
    this.#allocations.set(range.start, { ...range, owner, label });
    claimFrames(this.#memory, range, owner, label);
    return { hpa: hpaOf(range.start), pfn: range.start, count: range.count };
  }
}

function firstFit(free: readonly FrameRange[], pages: number, align: number): number | undefined {
  for (const range of free) {
    const pfn = Math.ceil(range.start / align) * align;
    if (pfn + pages <= range.start + range.count) return pfn;
  }
  return undefined;
}
