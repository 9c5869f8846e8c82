/**
 * The REPL without a terminal: lines in, lines out, at the stop at hand.
 *
 * Source: gdb's command language where it has a word for something; pwndbg and gef for what is shown at a stop.
 * Invariant: a line does what it says or changes nothing and says why; nothing that is typed ends the session by accident.
 */
import { didYouMean } from '../../../abi/did-you-mean.js';
import { HarnessError } from '../../../abi/errors.js';
import { hex, toIndex } from '../../../abi/uint.js';
import { phaseText } from '../events.js';
import { hitText, type Change } from '../breakpoints.js';
import { printPosition } from '../position.js';
import type { Cause, Resume, Stop } from '../resume.js';
import type { DebugSession } from '../session.js';
import { evaluateNumber } from '../source/expression/evaluate.js';
import { ExpressionScope } from '../source/expression/scope.js';
import { framesOf } from '../source/backtrace.js';
import type { LaneView } from '../source/lane-view.js';
import type { SourceLevel } from '../source/source-level.js';
import type { Canvas } from '../source/views/paint.js';
import { ReplError, type Arguments, type ReplCommand } from './command.js';
import { COMMANDS } from './commands/index.js';

/** What a REPL works with. */
export interface ReplParts {
  readonly session: DebugSession;
  readonly level: SourceLevel;
  /** How wide and in which styles; asked anew for each command, because terminals change. */
  readonly canvas: () => Canvas;
  /** One line of output. */
  readonly print: (line: string) => void;
  /** Reads and writes a user's file. */
  readonly files: ReplFiles;
}

/** The files that `record`, `replay` and `source` name. */
export interface ReplFiles {
  read(path: string): string;
  write(path: string, text: string): void;
}

export class Repl {
  readonly session: DebugSession;
  readonly level: SourceLevel;
  readonly files: ReplFiles;
  /** Frame that variables are looked up in; 0 is the innermost. */
  frame = 0;
  /** Whether a stop shows the whole context, or one line. */
  showsContext = true;
  readonly #parts: ReplParts;

  constructor(parts: ReplParts) {
    this.#parts = parts;
    this.session = parts.session;
    this.level = parts.level;
    this.files = parts.files;
  }

  get canvas(): Canvas {
    return this.#parts.canvas();
  }

  print(...lines: readonly string[]): void {
    for (const line of lines) this.#parts.print(line);
  }

  /** The core that is looked at. @throws DebugError. */
  get core(): LaneView {
    return this.level.core(this.session);
  }

  /** What names mean at the stop. @throws DebugError. */
  get scope(): ExpressionScope {
    const { core } = this;
    return new ExpressionScope(core, framesOf(core)[this.frame] ?? null);
  }

  /** The number that an expression comes to. @throws SourceError. */
  number(text: string): bigint {
    return evaluateNumber(text, this.scope);
  }

  /** A new stop: shows it. */
  stopped(stop: Stop): void {
    this.frame = 0;
    const cause = causeText(stop.cause);
    if (stop.vcpu === null) {
      this.print(cause);
      return;
    }
    if (stop.cause.kind === 'ended' || !this.showsContext) this.print(this.where(cause));
    else this.print(...this.level.context(this.session, this.canvas, cause));
    for (const line of detailsOf(stop.cause, this.session)) this.print(line);
  }

  /** The stop in one line. */
  where(cause = ''): string {
    const { core, session } = this;
    const rip = core.register('RIP');
    const symbol = core.sourceOf(rip)?.symbolAt(rip) ?? null;
    const line = core.sourceOf(rip)?.lineAt(rip) ?? null;
    const parts = [
      `${printPosition(session.position)} vCPU ${core.id} ${hex(rip)}`,
      symbol === null ? '' : `<${symbol.name}+${symbol.offset}>`,
      line === null || line.line === 0 ? '' : `${line.file.replace(/^.*\//, '')}:${line.line}`,
      cause === '' ? '' : `(${cause})`,
    ];
    return parts.filter((part) => part !== '').join(' ');
  }

  /** Does one line; how to go on when it moves the machine. @throws HarnessError. */
  execute(line: string): Resume | null {
    const text = line.trim();
    if (text === '' || text.startsWith('#')) return null;
    const [, word, slash = '', rest] = /^([^\s/]+)(?:\/(\S*))?\s*(.*)$/s.exec(text) ?? [];
    if (word === undefined || rest === undefined) {
      throw new ReplError('UNKNOWN_COMMAND', `"${text}" is no command; help lists them`);
    }
    const words = rest === '' ? [] : rest.split(/\s+/);
    const args: Arguments = { text: rest, words, slash };
    return findCommand(word).run(this, args) ?? null;
  }

  /** Does one line and prints what is wrong with it; null when it failed, else how to go on or nothing. */
  tryLine(line: string): { readonly resume: Resume | null } | null {
    try {
      return { resume: this.execute(line) };
    } catch (error) {
      this.print(`error: ${messageOf(error)}`);
      return null;
    }
  }
}

/** The command of a name, an alias, or the beginning of one name. @throws ReplError. */
export function findCommand(word: string): ReplCommand {
  const exact = COMMANDS.find(
    ({ name, aliases }) => name === word || aliases?.includes(word) === true,
  );
  if (exact !== undefined) return exact;
  const begun = COMMANDS.filter(({ name }) => name.startsWith(word));
  if (begun.length === 1) return begun[0]!;
  if (begun.length > 1) {
    const names = begun.map(({ name }) => name).join(', ');
    throw new ReplError('AMBIGUOUS_COMMAND', `"${word}" may be: ${names}`);
  }
  const known = COMMANDS.flatMap(({ name, aliases }) => [name, ...(aliases ?? [])]);
  const hint = didYouMean(word, known);
  throw new ReplError(
    'UNKNOWN_COMMAND',
    `unknown command "${word}"${hint === '' ? '; help lists the commands' : hint}`,
  );
}

/** What a user is told of an error. */
export function messageOf(error: unknown): string {
  if (error instanceof HarnessError) return error.message;
  const message = error instanceof Error ? error.message : String(error);
  return `${message} (a bug in caretaker-emu: please report it)`;
}

/** Why the machine stopped, in a few words. */
export function causeText(cause: Cause): string {
  switch (cause.kind) {
    case 'start':
      return 'first exit';
    case 'done':
      return '';
    case 'exit-ends':
      return 'the handler ends here';
    case 'breakpoint':
      return cause.breakpoints.map(hitText).join(', ');
    case 'finding':
      return `finding: ${cause.findings.map(({ invariant }) => invariant).join(', ')}`;
    case 'interrupted':
      return 'interrupted';
    case 'history-start':
      return 'there is nothing before this';
    case 'ended':
      return cause.error === null
        ? 'the scenario is over'
        : `the scenario ended: ${cause.error.message}`;
    case 'not-reached':
      return `${printPosition(cause.position)} is not reached: ${cause.why}`;
  }
}

/** What there is to say of a cause below the context. */
function detailsOf(cause: Cause, session: DebugSession): readonly string[] {
  const changes = cause.kind === 'breakpoint' ? cause.changes : [];
  const findings = 'findings' in cause ? cause.findings : [];
  return [
    ...changes.map((one) => changeText(one, session)),
    ...findings.map(({ invariant, message }) => `finding: ${invariant}: ${message}`),
  ];
}

function changeText({ breakpoint, before, after }: Change, session: DebugSession): string {
  const { text, spec } = breakpoint;
  if (spec.kind === 'phase') {
    const begun = session.machine.timeline.begun(toIndex(before), toIndex(after)).map(phaseText);
    // The host may go on without a vCPU's having run in between.
    return `${text}: ${begun.join(', then ')}`;
  }
  if (spec.kind === 'flip') return `${text}: KVM_${after === 0n ? 'DETACHED' : 'ATTACHED'}`;
  if (before === after) return `${text}: ${hex(after)} was read`;
  return `${text}: ${hex(before)} -> ${hex(after)}`;
}
