/**
 * What a command of the REPL is: its words, what it is for, an example that can be typed, and one function.
 *
 * Invariant: a command throws a HarnessError for everything that a user can get wrong, and changes the machine only by
 * the session's edits.
 */
import { HarnessError } from '../../../abi/errors.js';
import type { Resume } from '../resume.js';
import type { Repl } from './repl.js';

export type ReplErrorCode =
  'UNKNOWN_COMMAND' | 'AMBIGUOUS_COMMAND' | 'BAD_ARGUMENT' | 'NOT_POSSIBLE' | 'FILE';
/** A command that cannot be done: `message` is for the user. */
export class ReplError extends HarnessError<ReplErrorCode> {}

/** The groups of `help`, in its order. */
export const GROUPS = [
  'going on',
  'going back',
  'stopping',
  'looking',
  'changing',
  'the session',
] as const;

/** A command. */
export interface ReplCommand {
  readonly name: string;
  /** Short forms that need not be prefixes. */
  readonly aliases?: readonly string[];
  readonly group: (typeof GROUPS)[number];
  /** Its arguments, for instance `[COUNT]`. */
  readonly usage: string;
  readonly summary: string;
  readonly example: string;
  /** Whether an empty line on a terminal does it again. */
  readonly isRepeatable?: boolean;
  /** Words that may come next, for completion. */
  complete?(repl: Repl, words: readonly string[]): readonly string[];
  /** Does it; a command that moves the machine returns a Resume. */
  run(repl: Repl, args: Arguments): Resume | undefined;
}

/** What was typed behind the name. */
export interface Arguments {
  readonly text: string;
  readonly words: readonly string[];
  /** What follows a slash at the name, as in `x/4gx`; empty without. */
  readonly slash: string;
}

/** @throws ReplError BAD_ARGUMENT. */
export function bad(message: string): never {
  throw new ReplError('BAD_ARGUMENT', message);
}

/** A whole number from 1; 1 when nothing was said. @throws ReplError BAD_ARGUMENT. */
export function countOf({ words }: Arguments, repl: Repl): number {
  if (words.length === 0) return 1;
  const value = repl.number(words.join(' '));
  if (value < 1n || value > 1_000_000_000n)
    bad(`a count from 1 to 1000000000 is wanted, not ${value}`);
  return Number.parseInt(value.toString(), 10);
}

/** @throws ReplError BAD_ARGUMENT when anything was said. */
export function nothing({ text }: Arguments): void {
  if (text !== '') bad(`nothing is expected here, and there is "${text}"`);
}

/** The words, where they are no more than `most`. @throws ReplError BAD_ARGUMENT. */
export function atMost({ words }: Arguments, most: number): readonly string[] {
  if (words.length <= most) return words;
  return bad(
    `nothing is expected behind "${words.slice(0, most).join(' ')}", and there is "${words.slice(most).join(' ')}"`,
  );
}
