/**
 * What an engine counts, read where the native side counts it.
 *
 * Source: DESIGN ("Exact points").
 * Invariant: exact at every stop, whatever split the run.
 */
import { COUNTER } from './native-binding.js';
import type { EngineCounters } from './port.js';

/** The shared counters under their names. */
export class SharedCounters implements EngineCounters {
  readonly #words: Float64Array;
  constructor(words: Float64Array) {
    this.#words = words;
  }
  get instructions(): number {
    return this.#words[COUNTER.INSTRUCTIONS]!;
  }
  set instructions(value: number) {
    this.#words[COUNTER.INSTRUCTIONS] = value;
  }
  get blocks(): number {
    return this.#words[COUNTER.BLOCKS]!;
  }
  get stores(): number {
    return this.#words[COUNTER.STORES]!;
  }
  get inlineVmreads(): number {
    return this.#words[COUNTER.VMREADS]!;
  }
  get inlineVmwrites(): number {
    return this.#words[COUNTER.VMWRITES]!;
  }
  get inlineRdtscs(): number {
    return this.#words[COUNTER.RDTSCS]!;
  }
  get heldReturns(): number {
    return this.#words[COUNTER.HELD_RETURNS]!;
  }
}
