/**
 * Where a run is: `exit:instruction`.
 *
 * Exit n is the n-th VM exit of the whole machine that a payload takes, 0 what comes before the first; the instruction
 * counts what the exit's core has executed since HOST_RIP (before the first exit: what all cores have).
 * Invariant: parsePosition(printPosition(p)) is p, and nothing else is accepted.
 */

/** An instruction boundary of a run. */
export interface Position {
  readonly exit: number;
  readonly instruction: number;
}

/** The one form in which positions are printed and read. */
export function printPosition({ exit, instruction }: Position): string {
  return `${exit}:${instruction}`;
}

/** Reads `12:345`, and `12` as `12:0`; null for anything else. */
export function parsePosition(text: string): Position | null {
  const [, exit, instruction = '0'] = /^(\d{1,9})(?::(\d{1,12}))?$/.exec(text) ?? [];
  if (exit === undefined) return null;
  return { exit: Number.parseInt(exit, 10), instruction: Number.parseInt(instruction, 10) };
}
