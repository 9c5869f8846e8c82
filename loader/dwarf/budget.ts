/**
 * A bound on the work that one file can ask for: entries, attributes, bytes of strings, rows.
 *
 * Invariant: work is at most proportional to the size of the debug sections; then it is TOO_MUCH_WORK.
 */
import { refuseDwarf } from './errors.js';

const STEPS_PER_BYTE = 24;
const STEPS_AT_LEAST = 1 << 18;

/** Steps that are left; every reader of one file draws on the same. */
export class Budget {
  readonly #steps: number;
  #left: number;

  constructor(sectionBytes: number) {
    this.#steps = STEPS_AT_LEAST + STEPS_PER_BYTE * sectionBytes;
    this.#left = this.#steps;
  }

  /** Begins a new question to a file that stays open. */
  renew(): void {
    this.#left = this.#steps;
  }

  /** @throws DwarfError TOO_MUCH_WORK when no steps are left. */
  spend(steps: number): void {
    this.#left -= steps;
    if (this.#left < 0) refuseDwarf('TOO_MUCH_WORK', 'the debug information loops or repeats');
  }
}
