/**
 * The VMX-preemption timer: when it expires and what a VM exit saves of it.
 *
 * Source: SDM, "VMX-Preemption Timer" (VM entries), "VMX-Preemption Timer" (other features of VMX non-root operation).
 * Invariant: the timer counts down once for each change of TSC bit `shift`, in every activity state but wait-for-SIPI, and
 * only in VMX non-root operation. Times are TSC ticks below 2^53.
 */

/** A running VMX-preemption timer. */
export interface ArmedTimer {
  /** The 32-bit value that VM entry loaded. */
  readonly value: number;
  /** TSC at which it reaches 0 and a VM exit is pending. */
  readonly expiresAt: number;
}

const TICKS = Float64Array.from({ length: 32 }, (_, shift) => 2 ** shift);

/** TSC ticks of one count of the timer. */
export function ticksPerCount(shift: number): number {
  return TICKS[shift]!;
}

function timerTicks(tsc: number, shift: number): number {
  return Math.floor(tsc / ticksPerCount(shift));
}

/** The TSC at which a timer loaded with `value` at `entryTsc` reaches 0. */
export function timerExpiresAt(entryTsc: number, value: number, shift: number): number {
  return value === 0 ? entryTsc : (timerTicks(entryTsc, shift) + value) * ticksPerCount(shift);
}

/** The timer's value at `now`: what a VM exit saves if its controls say so. */
export function timerValueAt(entryTsc: number, value: number, now: number, shift: number): number {
  return Math.max(0, value - (timerTicks(now, shift) - timerTicks(entryTsc, shift)));
}

/** The value to load at `now` so that the timer expires at or just after `deadline`; 0 when it is due. */
export function timerValueFor(now: number, deadline: number, shift: number): number {
  if (deadline <= now) return 0;
  const ticks = Math.ceil(deadline / ticksPerCount(shift)) - timerTicks(now, shift);
  return Math.min(ticks, 0xffff_ffff);
}
