/**
 * Owner claims in physical memory by page frame: they change hands in parts when a kernel dies.
 *
 * Source: DESIGN ("One physical memory, one engine per pCPU").
 * Invariant: carving a range leaves every byte outside it with the owner and label that it had.
 */
import type { FrameRange } from './frames.js';
import { PAGE_SIZE, type Owner, type PhysicalMemory } from '../memory/physical-memory.js';

/** Takes every claim off `range`; regions that reach beyond it keep the rest. */
export function carveClaims(memory: PhysicalMemory, range: FrameRange): void {
  const from = range.start * PAGE_SIZE;
  const to = from + range.count * PAGE_SIZE;
  const touched = memory.regions().filter((r) => r.base < to && from < r.base + r.sizeBytes);
  for (const region of touched) {
    memory.release(region.base);
    const end = region.base + region.sizeBytes;
    if (region.base < from) memory.claim({ ...region, sizeBytes: from - region.base });
    if (end > to) memory.claim({ ...region, base: to, sizeBytes: end - to });
  }
}

/** Gives `range` to `owner`, whoever had it before. */
export function claimFrames(
  memory: PhysicalMemory,
  range: FrameRange,
  owner: Owner,
  label: string,
): void {
  carveClaims(memory, range);
  memory.claim({
    base: range.start * PAGE_SIZE,
    sizeBytes: range.count * PAGE_SIZE,
    owner,
    label,
  });
}
