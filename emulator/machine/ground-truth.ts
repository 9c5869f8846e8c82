/**
 * What really happened to one vCPU's exits, counted by the machine: telemetry is held against this.
 *
 * Source: CONTRACT ("Outcome of an exit").
 * Invariant: an exit is counted once, when its first outcome is known.
 */
import { CARETAKER_TELEMETRY_REASONS } from '../../abi/telemetry.js';
import type { Outcome } from './exit-record.js';
import { Log, type LogMark } from './log.js';

/** The outcomes in the order of struct caretaker_counters. */
export const OUTCOMES = ['fastpath', 'routed', 'blocked'] as const satisfies readonly Outcome[];

/** One wait of a vCPU for KVM. */
export interface Stall {
  readonly basic: number;
  readonly tscEntry: number;
  readonly tscRelease: number;
}

/** The counts as plain data. */
export interface GroundTruthState {
  readonly counts: Float64Array;
  readonly exits: number;
  readonly entryFailures: number;
  readonly nmis: number;
  readonly machineChecks: number;
  readonly stalls: LogMark<Stall>;
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
  readonly #stalls = new Log<Stall>();

  /** Every wait that is over, in order. */
  get stalls(): readonly Stall[] {
    return this.#stalls.items;
  }

  addStall(stall: Stall): void {
    this.#stalls.push(stall);
  }

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

  state(): GroundTruthState {
    return {
      counts: this.#counts.slice(),
      exits: this.exits,
      entryFailures: this.entryFailures,
      nmis: this.nmis,
      machineChecks: this.machineChecks,
      stalls: this.#stalls.mark(),
    };
  }

  restore(state: GroundTruthState): void {
    this.#counts.set(state.counts);
    this.exits = state.exits;
    this.entryFailures = state.entryFailures;
    this.nmis = state.nmis;
    this.machineChecks = state.machineChecks;
    this.#stalls.restore(state.stalls);
  }
}

function index(basic: number, outcome: Outcome): number {
  const row = basic < CARETAKER_TELEMETRY_REASONS ? basic : CARETAKER_TELEMETRY_REASONS;
  return row * OUTCOMES.length + (outcome === 'fastpath' ? 0 : outcome === 'routed' ? 1 : 2);
}
