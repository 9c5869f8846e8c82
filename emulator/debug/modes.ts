/**
 * What the machine is doing for a session, and the ways that lead through the past.
 *
 * Source: DESIGN ("Snapshots", "Exact points").
 * Invariant: a mode says all that is needed to go on at any boundary; it is taken up where it begins and left at a stop.
 */
import type { Lane } from '../machine/lane.js';
import type { Goal } from './goals.js';
import type { Position } from './position.js';
import type { Cause } from './resume.js';

/** What the machine is doing for the session. */
export type Mode =
  | { readonly kind: 'forward'; readonly goal: Goal }
  /** To the end, whatever comes. */
  | { readonly kind: 'end' }
  | { readonly kind: 'replay'; readonly target: number; readonly cause: Cause }
  /** To a position that has not been seen; back to `origin` if it never comes. */
  | {
      readonly kind: 'reach';
      readonly position: Position;
      readonly origin: number;
      readonly cause: Cause;
    }
  /** Looks at boundaries of a time that is past, then knows where to go. */
  | { readonly kind: 'scan'; readonly scan: Scan };

/** A look at the past. */
export interface Scan {
  readonly from: number;
  readonly until: number;
  /** Every boundary of this vCPU, or null for those at which a breakpoint may lie. */
  readonly each: number | null;
  readonly addresses: readonly bigint[];
  readonly origin: number;
  /** `taken`: addresses that events interrupted right before this boundary. */
  look(lane: Lane, time: number, taken: readonly bigint[]): void;
  /** Looks at the boundary at which it ends, if there is one. */
  arrive?(lane: Lane, taken: readonly bigint[]): void;
  then(): Mode;
}

/** To a time that was seen, where the wish is fulfilled. */
export function replayTo(target: number, cause: Cause = { kind: 'done' }): Mode {
  return { kind: 'replay', target, cause };
}

/** Back to a time at which there is nothing before. */
export function begin(target: number): Mode {
  return replayTo(target, { kind: 'history-start' });
}

/** The time that a mode goes to through what is known, null when it goes into the unknown. */
export function beginOf(mode: Mode): number | null {
  if (mode.kind === 'replay') return mode.target;
  return mode.kind === 'scan' ? mode.scan.from : null;
}
