/**
 * Page frames: numbers, ranges, and the power-of-two blocks that the page allocator and KHO speak in.
 *
 * Source: Linux include/linux/pfn.h; kexec_handover.c: kho_preserve_pages() for how a range falls into blocks.
 * Invariant: a pfn is a plain number, an hpa a bigint; ranges are never empty.
 */
import { HarnessBug } from '../../abi/errors.js';
import { toIndex, u64 } from '../../abi/uint.js';
import { PAGE_SIZE } from '../memory/physical-memory.js';

/** Frames `[start, start + count)`. */
export interface FrameRange {
  readonly start: number;
  readonly count: number;
}

/** 2^order frames from `pfn`, aligned to their own number. */
export interface Block {
  readonly pfn: number;
  readonly order: number;
}

/** The largest order that the page allocator hands out and KHO restores. */
export const MAX_PAGE_ORDER = 10;

/** The address of a frame. */
export function hpaOf(pfn: number): bigint {
  return u64(pfn) * u64(PAGE_SIZE);
}

/** The frame that holds an address. */
export function pfnOf(hpa: bigint): number {
  return toIndex(hpa / u64(PAGE_SIZE));
}

/** Pages that hold `sizeBytes`. */
export function pagesFor(sizeBytes: number): number {
  return Math.ceil(sizeBytes / PAGE_SIZE);
}

/** The frames of `[base, base + sizeBytes)`; both are page multiples. */
export function framesOf(base: number, sizeBytes: number): FrameRange {
  if (base % PAGE_SIZE !== 0 || sizeBytes % PAGE_SIZE !== 0 || sizeBytes <= 0) {
    throw new HarnessBug(`no whole pages: ${base} + ${sizeBytes}`);
  }
  return { start: base / PAGE_SIZE, count: sizeBytes / PAGE_SIZE };
}

/** The smallest order whose block holds `pages`. */
export function orderFor(pages: number): number {
  return pages <= 1 ? 0 : 32 - Math.clz32(pages - 1);
}

/** Whether two ranges share a frame. */
export function overlap(a: FrameRange, b: FrameRange): boolean {
  return a.start < b.start + b.count && b.start < a.start + a.count;
}

/** Whether `inner` lies wholly in `outer`. */
export function contains(outer: FrameRange, inner: FrameRange): boolean {
  return inner.start >= outer.start && inner.start + inner.count <= outer.start + outer.count;
}

/** The blocks that a range falls into: at each frame the largest aligned one that still fits. */
export function blocksOf(range: FrameRange): Block[] {
  const blocks: Block[] = [];
  const end = range.start + range.count;
  for (let pfn = range.start; pfn < end;) {
    let order = 0;
    while (
      order < MAX_PAGE_ORDER &&
      pfn % 2 ** (order + 1) === 0 &&
      pfn + 2 ** (order + 1) <= end
    ) {
      order++;
    }
    blocks.push({ pfn, order });
    pfn += 2 ** order;
  }
  return blocks;
}

/** The frames of a block. */
export function framesOfBlock(block: Block): FrameRange {
  return { start: block.pfn, count: 2 ** block.order };
}

/** The same frames as sorted ranges that neither touch nor overlap. */
export function mergeFrames(ranges: readonly FrameRange[]): FrameRange[] {
  const merged: { start: number; count: number }[] = [];
  for (const range of [...ranges].sort((a, b) => a.start - b.start)) {
    const last = merged.at(-1);
    if (last !== undefined && range.start <= last.start + last.count) {
      last.count = Math.max(last.count, range.start + range.count - last.start);
    } else {
      merged.push({ ...range });
    }
  }
  return merged;
}

/** The frames of `from` that no hole holds. */
export function subtractFrames(
  from: readonly FrameRange[],
  holes: readonly FrameRange[],
): FrameRange[] {
  const sorted = mergeFrames(holes);
  const left: FrameRange[] = [];
  for (const range of mergeFrames(from)) {
    let start = range.start;
    const end = range.start + range.count;
    for (const hole of sorted) {
      if (hole.start >= end) break;
      if (hole.start + hole.count <= start) continue;
      if (hole.start > start) left.push({ start, count: hole.start - start });
      start = Math.max(start, hole.start + hole.count);
    }
    if (start < end) left.push({ start, count: end - start });
  }
  return left;
}

/** The frames that both hold. */
export function intersectFrames(a: readonly FrameRange[], b: readonly FrameRange[]): FrameRange[] {
  return subtractFrames(a, subtractFrames(a, b));
}
