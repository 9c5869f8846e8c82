/**
 * The lines of the source as they run: where a step by lines stops, whichever way it goes.
 *
 * Source: gdb's step: it ends where a statement of another line begins, and goes on where it comes back into the middle
 * of a line, as behind a call.
 * Invariant: an instruction without a line is a line of its own.
 */
import type { SourceLineKey } from './resume.js';

export class LineWalk {
  #key: string | null;

  /** Begins inside a line; null where there is none. */
  constructor(line: SourceLineKey | null) {
    this.#key = line?.key ?? null;
  }

  /** Whether a step would stop at the next instruction, which is one of `line`. */
  begins(line: SourceLineKey | null): boolean {
    const before = this.#key;
    const isOther = line === null || line.key !== before;
    // Code of another line that is not to be stopped at belongs to the statement that it serves.
    if (isOther && (before === null || line?.begins !== 'row')) this.#key = line?.key ?? null;
    if (line === null || before === null) return true;
    return isOther && line.begins === 'statement';
  }
}
