/** What `monitor` runs: the debugger's own command line. */
import type { CommandRunner } from './session-target.js';

/** Until there is one. */
export const runMonitorCommand: CommandRunner = (_session, line) => ({
  output: `no such command: ${line}\n`,
  resume: null,
});
