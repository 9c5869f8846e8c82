/**
 * What really happened to one vCPU's exits, counted by the machine: telemetry is held against this.
 *
 * Source: CONTRACT ("Outcome of an exit").
 * Invariant: an exit is counted once, when its first outcome is known.
 */
import { CARETAKER_TELEMETRY_REASONS } from '../../abi/telemetry.js';
import type { Outcome } from './exit-record.js';

/** The outcomes in the order of struct caretaker_counters. */
export const OUTCOMES = ['fastpath', 'routed', 'blocked'] as const satisfies readonly Outcome[];

/** One wait of a vCPU for KVM. */
export interface Stall {
  readonly basic: number;
  readonly tscEntry: number;
  readonly tscRelease: number;
}

const ROWS = CARETAKER_TELEMETRY_REASONS + 1;

export class GroundTruth {
  /** Row of a reason; the last row is for reasons past the table. */
  readonly #counts = new Float64Array(ROWS * OUTCOMES.length);
  /** Exits with an outcome, entry failures apart: the sum of all counts. */
  exits = 0;
  entryFailures = 0;
  /** NMIs and machine checks that the payload serviced, without those that were the host's. */
  nmis = 0;
  machineChecks = 0;
  readonly stalls: Stall[] = [];

  /** Counts the first outcome of an exit. */
  add(basic: number, outcome: Outcome): void {
    this.#counts[index(basic, outcome)]!++;
    this.exits++;
  }

  count(basic: number, outcome: Outcome): number {
    return this.#counts[index(basic, outcome)]!;
  }

  total(outcome: Outcome): number {
    let sum = 0;
    for (let row = 0; row < ROWS; row++) sum += this.count(row, outcome);
    return sum;
  }
}

function index(basic: number, outcome: Outcome): number {
  const row = basic < CARETAKER_TELEMETRY_REASONS ? basic : CARETAKER_TELEMETRY_REASONS;
  return row * OUTCOMES.length + (outcome === 'fastpath' ? 0 : outcome === 'routed' ? 1 : 2);
}
