/**
 * What a campaign has seen of the payload's edges, and whether an execution adds to it.
 *
 * Source: the native edge hook (emulator/cpu/native); counts are put into eight classes, as AFL does.
 * Invariant: an input is worth keeping when it takes an edge, or takes one more often by a class, as none before it.
 */
import type { EdgeCoverage } from '../cpu/edge-coverage.js';

/** The class of a count, as a bit. */
const CLASS = new Uint8Array(256);
const BOUNDS = [1, 2, 3, 4, 8, 16, 32, 128] as const;
BOUNDS.forEach((from, index) => CLASS.fill(1 << index, from));

export class CoverageMap {
  readonly #seen: Uint8Array;
  /** Edges seen so far. */
  edges = 0;

  /** `size` is that of the engines' maps. */
  constructor(size: number) {
    this.#seen = new Uint8Array(size);
  }

  /** Classes of counts that were seen of each edge, a bit each. */
  classes(): Uint8Array {
    return this.#seen.slice();
  }

  /** Adds what another map has seen. */
  merge(classes: Uint8Array): void {
    classes.forEach((seen, edge) => {
      if (seen === 0) return;
      if (this.#seen[edge] === 0) this.edges++;
      this.#seen[edge]! |= seen;
    });
  }

  /** Adds what an execution covered; whether anything in it is new. */
  add({ counts, edges }: EdgeCoverage): boolean {
    let isNew = false;
    for (const edge of edges) {
      const kind = CLASS[counts[edge]!]!;
      const before = this.#seen[edge]!;
      if (before === 0) this.edges++;
      if ((before & kind) !== 0) continue;
      this.#seen[edge] = before | kind;
      isNew = true;
    }
    return isNew;
  }
}
