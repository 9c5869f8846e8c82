/**
 * A controller that takes its commands from lines: a file, a pipe, a test.
 *
 * Source: CLI ("debug": --commands FILE and piped input).
 * Invariant: no prompts; the first command that fails ends the session and is named with its line.
 */
import type { Controller } from '../resume.js';
import { printPosition } from '../position.js';
import { Repl, type ReplParts } from './repl.js';

/** What came of a script: the line that failed, counted from 1, or null. */
export interface ScriptResult {
  failedLine: number | null;
}

/** Takes `lines` as commands. */
export function scriptController(
  lines: readonly string[],
  parts: Omit<ReplParts, 'session'>,
  result: ScriptResult,
): Controller {
  let repl: Repl | null = null;
  let at = 0;
  return (session, stop) => {
    repl ??= new Repl({ ...parts, session });
    repl.stopped(stop);
    if (stop.cause.kind === 'not-reached') {
      repl.print(`error: ${printPosition(stop.cause.position)}: ${stop.cause.why}`);
      return fail(at);
    }
    while (at < lines.length) {
      const done = repl.tryLine(lines[at++]!);
      if (done === null) return fail(at);
      if (done.resume !== null) return done.resume;
    }
    return { kind: 'quit' };
  };

  function fail(line: number): { readonly kind: 'quit' } {
    result.failedLine = line;
    return { kind: 'quit' };
  }
}
