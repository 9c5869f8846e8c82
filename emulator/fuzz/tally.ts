/**
 * What became of every exit of a campaign, by reason and state.
 *
 * Source: CONTRACT ("Outcome of an exit").
 * Invariant: an exit is counted once, at its first outcome.
 */
import { CARETAKER_EXIT_POLICY_MAX } from '../../abi/config.js';
import { printExitReason } from '../../abi/exit-reasons.js';
import type { Outcome } from '../machine/exit-record.js';
import { OUTCOMES } from '../machine/ground-truth.js';
import type { ExitObserver } from '../machine/hooks.js';
import type { Lane } from '../machine/lane.js';

/** Exits of one reason in one state. */
export interface TallyRow {
  readonly reason: string;
  readonly basic: number;
  readonly attached: boolean;
  readonly fastpath: number;
  readonly routed: number;
  readonly blocked: number;
}

const ROWS = 2 * (CARETAKER_EXIT_POLICY_MAX + 1);

export class Tally implements ExitObserver {
  readonly #counts = new Float64Array(ROWS * OUTCOMES.length);
  /** Exits counted so far. */
  exits = 0;

  readonly onOutcome = (lane: Lane, outcome: Outcome): void => {
    const { basic, wasAttached } = lane.exit;
    const row = 2 * Math.min(basic, CARETAKER_EXIT_POLICY_MAX) + (wasAttached ? 1 : 0);
    this.#counts[OUTCOMES.length * row + OUTCOMES.indexOf(outcome)]!++;
    this.exits++;
  };

  /** What was counted, for merge() of another. */
  counts(): Float64Array {
    return this.#counts.slice();
  }

  /** Adds what another tally has counted. */
  merge(counts: Float64Array): void {
    counts.forEach((count, index) => {
      this.#counts[index]! += count;
      this.exits += count;
    });
  }

  /** Every row that is not empty, in the order of reasons. */
  rows(): readonly TallyRow[] {
    const rows: TallyRow[] = [];
    for (let row = 0; row < ROWS; row++) {
      const [fastpath, routed, blocked] = this.#counts.subarray(
        OUTCOMES.length * row,
        OUTCOMES.length * (row + 1),
      );
      if (fastpath! + routed! + blocked! === 0) continue;
      const basic = row >>> 1;
      const isOther = basic === CARETAKER_EXIT_POLICY_MAX;
      rows.push({
        reason: isOther ? 'beyond the policy' : printExitReason(basic),
        basic,
        attached: (row & 1) === 1,
        fastpath: fastpath!,
        routed: routed!,
        blocked: blocked!,
      });
    }
    return rows;
  }
}
