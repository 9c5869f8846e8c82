/**
 * What a command is: its words, its options as data, and one function that does the work.
 *
 * Invariant: a command returns its exit status; it never ends the process, so that tests run it in theirs.
 */
import type { InferredOptionTypes, Options, PositionalOptions } from 'yargs';
import type { ExitStatus } from './exit-status.js';
import type { Terminal } from './output/terminal.js';

/** An option as yargs has it, and the least and the greatest value of a number: 0 and none unless said. */
export interface CommandOption extends Options {
  readonly minimum?: number;
  readonly maximum?: number;
}

/** Options that every command takes. */
export const GLOBAL_OPTIONS = {
  json: { type: 'boolean', default: false, describe: 'One JSON document on stdout, nothing else' },
  seed: {
    type: 'number',
    maximum: 0xffff_ffff,
    describe: 'Seed of everything that is drawn, of 32 bits',
  },
} as const satisfies Record<string, CommandOption>;

/** Values of the options that every command takes. */
export type GlobalArguments = InferredOptionTypes<typeof GLOBAL_OPTIONS>;

type OptionTable = Readonly<Record<string, CommandOption>>;
type PositionalTable = Readonly<Record<string, PositionalOptions>>;

/** A line of --help that can be typed as it stands, and what it does. */
export type Example = readonly [line: string, what: string];

/** A command whose arguments are typed by its own tables. */
export interface CommandOf<P extends PositionalTable, O extends OptionTable> {
  /** yargs' notation of the arguments, for instance `[payload]`. */
  readonly usage: string;
  readonly positionals: P;
  readonly options: O;
  readonly examples: readonly Example[];
  run(
    args: InferredOptionTypes<P> & InferredOptionTypes<O> & GlobalArguments,
    terminal: Terminal,
  ): ExitStatus | Promise<ExitStatus>;
}

/** A command as main sees it: the tables, and arguments that parse.ts has held against them. */
export interface Command {
  readonly usage: string;
  readonly positionals: PositionalTable;
  readonly options: OptionTable;
  readonly examples: readonly Example[];
  run(args: unknown, terminal: Terminal): ExitStatus | Promise<ExitStatus>;
}

/** Ties a command's arguments to its tables. */
export function defineCommand<const P extends PositionalTable, const O extends OptionTable>(
  command: CommandOf<P, O>,
): Command {
  type Arguments = Parameters<typeof command.run>[0];
  // SAFETY: parseArguments() makes the arguments from these same tables and refuses everything else.
  return { ...command, run: (args, terminal) => command.run(args as Arguments, terminal) };
}

/** A row of the list of commands; the module behind it is loaded when the command is named. */
export interface CommandEntry {
  readonly name: string;
  readonly describe: string;
  readonly load: () => Promise<Command>;
}
