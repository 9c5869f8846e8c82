/**
 * Puts a plan into physical memory. Guard pages and gaps are left alone: nothing maps them.
 */
import { hex } from '../abi/uint.js';
import type { PhysicalBytes } from '../emulator/memory/physical-memory.js';
import { refuse } from './errors.js';
import type { LoadedImage } from './place.js';

/** Writes every page of the plan. @throws LoaderError PLACE_OUTSIDE_MEMORY before anything is written. */
export function writeImage(loaded: LoadedImage, memory: PhysicalBytes): void {
  const end = loaded.span.base + BigInt(loaded.span.sizeBytes);
  if (end > BigInt(memory.sizeBytes)) {
    refuse('PLACE_OUTSIDE_MEMORY', `the image and its guards end at ${hex(end)}`, {
      expected: `at most ${hex(memory.sizeBytes)}`,
      actual: hex(end),
    });
  }
  for (const range of loaded.ranges) memory.write(range.base, range.bytes);
}
