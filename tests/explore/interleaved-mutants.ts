/**
 * Bugs that only the order in which several act shows, and who must act.
 *
 * Source: DESIGN ("Invariants"). A row is NAME of tests/mutants/patches/NAME.patch, the cast that is enough, and the
 * invariant that must name it.
 */
import type { InvariantId } from '../../emulator/vmx/stop-reason.js';

/** A patch, those that show it, and what names it. */
export type Row = readonly [patch: string, actors: string, invariant: InvariantId];

// prettier-ignore
export const ORDERS: readonly Row[] = [
  ['posted-without-lock', 'detached:ICR+PAUSE+post@1', 'interrupts'],
  ['posted-with-an-unlocked-or', 'detached:ICR+PAUSE+post@1', 'interrupts'],
  ['merge-forgets-what-came-between', 'detached:ICR+PAUSE+post@1', 'interrupts'],
  ['kicked-before-it-is-posted', 'detached:ICR+HLT', 'interrupts'],
  ['ipi-without-a-kick', 'detached:ICR+HLT', 'interrupts'],
  ['posted-not-in-the-last-look', 'detached:HLT+post@0', 'interrupts'],
  ['halted-said-after-the-look', 'root-halt-detached:HLT+flip@0', 'no-lost-exit'],
  ['head-before-its-record', 'detached:VMCALL+flip@0+drain@0', 'telemetry'],
  ['serialized-said-before-it-is-so', 'detached:HLT+stop-flip@0', 'preserved'],
];

// prettier-ignore
/** Fences: nothing shows them but store buffers. */
export const FENCES: readonly Row[] = [
  ['spin-without-a-fence', 'detached:VMCALL+flip@0', 'no-lost-exit'],
  ['halt-without-a-fence', 'root-halt-detached:HLT+flip@0', 'no-lost-exit'],
];

/** Its fence orders nothing that anyone hangs on: the loop behind it looks until it sees. */
export const HARMLESS = 'stop-without-a-fence';

/** Patches of all of them. */
export const INTERLEAVED_PATCHES: readonly string[] = [
  ...[...ORDERS, ...FENCES].map(([patch]) => patch),
  HARMLESS,
];
