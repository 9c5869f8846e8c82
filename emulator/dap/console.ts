/**
 * What a console's line does: a command of the debugger's own, or nothing, and then it is an expression.
 *
 * Source: emulator/debug/repl.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import type { Resume } from '../debug/resume.js';
import { wordsBehind } from '../debug/repl/asking.js';
import { ReplError } from '../debug/repl/command.js';
import { findCommand, Repl } from '../debug/repl/repl.js';
import type { ReplFiles } from '../debug/repl/repl.js';
import { plain } from '../debug/source/views/paint.js';
import type { AdapterState } from './state.js';

/** What a command has printed, and how the machine goes on for it. */
export interface CommandResult {
  readonly output: string;
  readonly resume: Resume | null;
}

/** Runs a line; null when it is no command. @throws HarnessError when the command fails. */
export type CommandRunner = (line: string) => CommandResult | null;

/** A console of a debug view is about as wide. */
const CANVAS = { columns: 100, cutAt: Infinity, paint: plain, isUnicode: true } as const;

/** The files that a command may name. */
const FILES: ReplFiles = {
  read: (path) => orRefused(path, () => readFileSync(path, 'utf8')),
  write: (path, text) => {
    orRefused(path, () => {
      writeFileSync(path, text);
    });
  },
};

function orRefused<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : '';
    throw new ReplError('FILE', `${path}: ${why}`, {}, { cause });
  }
}

/** The debugger's own commands over a session. */
export function replRunner(state: AdapterState): CommandRunner {
  const { session, level } = state;
  let lines: string[] = [];
  const repl = new Repl({
    session,
    level,
    canvas: () => CANVAS,
    print: (line) => lines.push(line),
    files: FILES,
  });
  state.commandWords = (line) => wordsBehind(repl, line);
  return (line) => {
    if (!isCommand(line)) return null;
    lines = [];
    const resume = repl.execute(line);
    return { output: lines.join('\n'), resume };
  };
}

/** Whether the first word is a command's; a word that could be several is left to the expression. */
function isCommand(line: string): boolean {
  const word = /^\s*([A-Za-z-]+)(?:\/\S*)?(?:\s|$)/.exec(line)?.[1];
  if (word === undefined) return false;
  try {
    findCommand(word);
    return true;
  } catch (error) {
    if (error instanceof ReplError) return false;
    throw error;
  }
}
