/** A terminal that keeps what is written to it, and programs run on it in this process. */
import { runProgram } from '../../emulator/cli/program.js';
import type { CommandEntry } from '../../emulator/cli/command.js';
import type { ExitStatus } from '../../emulator/cli/exit-status.js';
import { terminalOf } from '../../emulator/cli/output/terminal.js';
import type { Terminal } from '../../emulator/cli/output/terminal.js';

/** What one command line wrote and returned. */
export interface Outcome {
  readonly status: ExitStatus;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command line with `commands`; neither stream is a terminal. */
export async function runWith(
  commands: readonly CommandEntry[],
  ...words: readonly string[]
): Promise<Outcome> {
  const written = { stdout: '', stderr: '' };
  const stream = (name: keyof typeof written): { write(text: string): void } => ({
    write: (text) => void (written[name] += text),
  });
  const status = await runProgram(
    words,
    commands,
    terminalOf(stream('stdout'), stream('stderr'), {}),
  );
  return { status, ...written };
}

/** A terminal of some columns, and what was printed to it. */
export function bufferTerminal(columns: number): { terminal: Terminal; stdout: () => string } {
  let written = '';
  const terminal: Terminal = {
    columns,
    isTerminal: true,
    isUnicode: false,
    print: (text) => void (written += `${text}\n`),
    note: () => undefined,
    progress: () => undefined,
    style: (_style, text) => text,
  };
  return { terminal, stdout: () => written };
}
