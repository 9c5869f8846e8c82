/**
 * A controller that asks a person for each line, with what they need to type it: completions, and again on an empty line.
 *
 * Source: gdb (an empty line repeats a stepping command).
 * Invariant: a command that fails is told and changes nothing; only `quit` and the end of input end the session.
 */
import type { Controller } from '../resume.js';
import { COMMANDS } from './commands/index.js';
import { findCommand, Repl, type ReplParts } from './repl.js';

/** Words that may follow a command, by what was typed before them. */
export type Completions = Readonly<Record<string, readonly string[]>>;

/** Asks for a line; null at the end of input. */
export type AskLine = (completions: Completions) => string | null;

/** Takes commands from a person. */
export function askingController(ask: AskLine, parts: Omit<ReplParts, 'session'>): Controller {
  let repl: Repl | null = null;
  let last = '';
  return (session, stop) => {
    repl ??= new Repl({ ...parts, session });
    repl.stopped(stop);
    for (;;) {
      const typed = ask(completionsOf(repl));
      if (typed === null) return { kind: 'quit' };
      const line = typed.trim() === '' ? last : typed;
      last = isRepeatable(line) ? line : '';
      const done = repl.tryLine(line);
      if (done !== null && done.resume !== null) return done.resume;
    }
  };
}

function isRepeatable(line: string): boolean {
  const [word = ''] = line.trim().split(/[\s/]/);
  try {
    return word !== '' && findCommand(word).isRepeatable === true;
  } catch {
    return false;
  }
}

/** First words that have words of their own behind them. */
const FAMILIES = ['exit', 'vmread', 'vmwrite', 'flip', 'phase'];

function completionsOf(repl: Repl): Completions {
  const words: Record<string, readonly string[]> = { '': COMMANDS.map(({ name }) => name) };
  for (const command of COMMANDS) {
    const first = command.complete?.(repl, []) ?? [];
    for (const name of [command.name, ...(command.aliases ?? [])]) {
      words[name] = first;
      for (const family of FAMILIES) {
        if (first.includes(family)) words[`${name} ${family}`] = command.complete!(repl, [family]);
      }
    }
  }
  return words;
}

/** The words that a line of a session may go on with. */
export function wordsBehind(repl: Repl, line: string): readonly string[] {
  return complete(completionsOf(repl), line)[0].map((word) => word.trimEnd());
}

/** The words that a line may go on with, and the part that they would replace. */
export function complete(completions: Completions, line: string): [string[], string] {
  const [, before = '', part = ''] = /^(.*?)(\S*)$/s.exec(line.replace(/^\s+/, '')) ?? [];
  const known = completions[before.trim()] ?? [];
  const isUpper = part.toUpperCase();
  const begun = known.filter((word) => word.startsWith(part) || word.startsWith(isUpper));
  return [begun.map((word) => `${word} `), part];
}
