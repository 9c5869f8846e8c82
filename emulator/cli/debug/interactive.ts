/** The REPL on a terminal. */
import type { Scenario } from '../../machine/scenario/schema.js';
import { EXIT, type ExitStatus } from '../exit-status.js';
import type { Terminal } from '../output/terminal.js';

/** What is debugged. */
export interface Debuggee {
  readonly scenario: Scenario;
  readonly payload: Uint8Array;
  readonly file: string;
}

/** Asks a person until they are done. */
export function runInteractively(debuggee: Debuggee, terminal: Terminal): Promise<ExitStatus> {
  terminal.note(`${debuggee.file}: not yet`);
  return Promise.resolve(EXIT.OK);
}
