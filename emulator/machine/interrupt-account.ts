/**
 * Assertions and deliveries of one vCPU's interrupts, by vector: what the interrupts invariant reckons with.
 *
 * Source: CONTRACT ("What the payload handles"): at least one delivery after the last assertion, at most one each.
 * Invariant: an assertion is counted where it arises, a delivery at VM entry; one is due while the last of the two was the
 * assertion, in the order in which they happened and whatever the clocks of their cores say.
 */
import { VECTOR } from '../../abi/interruption.js';

const VECTORS = 256;
/** Vectors below are exceptions, but for the NMI's. */
const FIRST_INTERRUPT = 32;

/** The account as plain data: asserted, delivered, the TSC of the last assertion, and 1 while it is due; a row of vectors each. */
export type InterruptAccountState = Float64Array;

export class InterruptAccount {
  readonly #rows = new Float64Array(4 * VECTORS);
  readonly #asserted = this.#rows.subarray(0, VECTORS);
  readonly #delivered = this.#rows.subarray(VECTORS, 2 * VECTORS);
  readonly #assertedTsc = this.#rows.subarray(2 * VECTORS, 3 * VECTORS);
  readonly #isDue = this.#rows.subarray(3 * VECTORS);

  /** Counts an assertion of a guest vector: at most one delivery is due for it. */
  assert(vector: number, tsc: number): void {
    this.#asserted[vector]!++;
    this.#assertedTsc[vector] = tsc;
    this.#isDue[vector] = 1;
  }

  /** Counts an assertion that another vCPU may take instead: a delivery is allowed and none is due. */
  allow(vector: number): void {
    this.#asserted[vector]!++;
  }

  /** Counts a delivery by VM entry. */
  deliver(vector: number): void {
    this.#delivered[vector]!++;
    this.#isDue[vector] = 0;
  }

  /** The guest has taken back what it had asked for: a delivery stays allowed and none is due. */
  release(vector: number): void {
    this.#isDue[vector] = 0;
  }

  counts(vector: number): { readonly asserted: number; readonly delivered: number } {
    return { asserted: this.#asserted[vector]!, delivered: this.#delivered[vector]! };
  }

  /** Vectors asserted after their last delivery, and when. */
  due(): readonly { readonly vector: number; readonly sinceTsc: number }[] {
    const due: { vector: number; sinceTsc: number }[] = [];
    const look = (vector: number): void => {
      if (this.#isDue[vector] === 1) due.push({ vector, sinceTsc: this.#assertedTsc[vector]! });
    };
    look(VECTOR.NMI);
    for (let vector = FIRST_INTERRUPT; vector < VECTORS; vector++) look(vector);
    return due;
  }

  state(): InterruptAccountState {
    return this.#rows.slice();
  }

  restore(state: InterruptAccountState): void {
    this.#rows.set(state);
  }
}
