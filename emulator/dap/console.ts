/**
 * What a console's line does: a command of the debugger's own, or nothing, and then it is an expression.
 */
import type { Resume } from '../debug/resume.js';
import type { AdapterState } from './state.js';

/** What a command has printed, and how the machine goes on for it. */
export interface CommandResult {
  readonly output: string;
  readonly resume: Resume | null;
}

/** Runs a line; null when it is no command. @throws HarnessError when the command fails. */
export type CommandRunner = (state: AdapterState, line: string) => CommandResult | null;
