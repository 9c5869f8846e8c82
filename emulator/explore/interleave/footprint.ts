/**
 * What one step of an actor touches, so that steps which commute are told from those that do not.
 *
 * Source: Godefroid, "Partial-Order Methods for the Verification of Concurrent Systems": two accesses are dependent when
 * they overlap and one of them writes.
 * Invariant: what a step depends on is told too broadly rather than too narrowly. Physical memory lies below 2^32; what is
 * no memory has a place of its own above it.
 */

/** An access to the places [from, to). */
export interface Access {
  readonly from: number;
  readonly to: number;
  readonly isWrite: boolean;
}

/** All accesses of one step. */
export type Footprint = readonly Access[];

const APICS = 2 ** 40;
const VMCSS = APICS + 2 ** 20;
const BUFFERS = 2 ** 41;
const BUFFER_ENTRIES = 2 ** 20;

/** Bytes of physical memory. */
export const bytes = (from: number, sizeBytes: number, isWrite: boolean): Access => ({
  from,
  to: from + sizeBytes,
  isWrite,
});

/** What a core's local APIC holds for it. */
export const apic = (core: number): Access => bytes(APICS + core, 1, true);

/** Whether a core has its VMCS current. */
export const currentVmcs = (core: number): Access => bytes(VMCSS + core, 1, true);

/** One entry of an actor's store buffer, by its place in the order of all its stores; each is made once and drained once. */
export const bufferEntry = (actor: number, entry: number): Access =>
  bytes(BUFFERS + actor * BUFFER_ENTRIES + entry, 1, true);

/** All that an actor's store buffer ever holds: what waits for it to be empty reads this. */
export const wholeBuffer = (actor: number): Access =>
  bytes(BUFFERS + actor * BUFFER_ENTRIES, BUFFER_ENTRIES, false);

/** Whether the order of two steps may matter. */
export function areDependent(a: Footprint, b: Footprint): boolean {
  for (const one of a) {
    for (const other of b) {
      if (!one.isWrite && !other.isWrite) continue;
      if (one.from < other.to && other.from < one.to) return true;
    }
  }
  return false;
}
