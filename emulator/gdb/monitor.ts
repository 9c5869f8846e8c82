/**
 * What `monitor` runs: the debugger's own command line, every command of it.
 *
 * Invariant: a command that fails says why and changes nothing. GDB is not told that a command has moved the machine:
 * the protocol has no way to; it is said to the user instead.
 */
import type { Stop } from '../debug/resume.js';
import { Repl, type ReplFiles } from '../debug/repl/repl.js';
import type { DebugSession } from '../debug/session.js';
import type { SourceLevel } from '../debug/source/source-level.js';
import { PLAIN_CANVAS } from '../debug/source/views/paint.js';
import type { CommandLine, CommandResult } from './session-target.js';

const STALE = 'gdb has not noticed: `maintenance flush register-cache` makes it look again.';

/** A session is its stub's, which serves the next client. */
const NO_END =
  'error: the session does not end here: `detach` leaves it to the next client, and whoever started gdbserver ends that';

/** The command line of one session after the other. */
export class Monitor implements CommandLine {
  readonly #level: SourceLevel;
  readonly #files: ReplFiles;
  readonly #lines: string[] = [];
  #repl: Repl | null = null;

  constructor(level: SourceLevel, files: ReplFiles) {
    this.#level = level;
    this.#files = files;
  }

  run(session: DebugSession, vcpu: number | null, line: string): CommandResult {
    const repl = this.#of(session);
    if (vcpu !== null) session.select(vcpu);
    const resume = repl.tryLine(line)?.resume ?? null;
    if (resume?.kind !== 'quit') return { output: this.#take(), resume };
    this.#lines.push(NO_END);
    return { output: this.#take(), resume: null };
  }

  arrived(session: DebugSession, stop: Stop): string {
    this.#of(session).stopped(stop);
    this.#lines.push(STALE);
    return this.#take();
  }

  #of(session: DebugSession): Repl {
    this.#repl ??= new Repl({
      session,
      level: this.#level,
      canvas: () => PLAIN_CANVAS,
      print: (line) => this.#lines.push(line),
      files: this.#files,
    });
    return this.#repl;
  }

  #take(): string {
    return this.#lines
      .splice(0)
      .map((line) => `${line}\n`)
      .join('');
  }
}
