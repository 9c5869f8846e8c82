/**
 * Edge coverage of what an engine ran, as fuzzers want it: a map of saturating counts, and which of them are not 0.
 *
 * Invariant: the same code gives the same places wherever it was loaded.
 * Not modelled: two edges can share a place.
 */
import { COVERAGE_BYTES } from './native-binding.js';

export class EdgeCoverage {
  /** 64 Ki counts that stop at 255. */
  readonly counts = new Uint8Array(COVERAGE_BYTES);
  /** How many counts are not 0, then their places: the native side appends. */
  readonly places = new Uint32Array(1 + COVERAGE_BYTES);

  /** Places whose count is not 0, in the order in which they were first taken since clear(). */
  get edges(): Uint32Array {
    return this.places.subarray(1, 1 + this.places[0]!);
  }

  clear(): void {
    for (const edge of this.edges) this.counts[edge] = 0;
    this.places[0] = 0;
  }
}
