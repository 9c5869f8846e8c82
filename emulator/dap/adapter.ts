/**
 * The protocol as a pure machine: requests in, answers, events and the session's next move out.
 *
 * Source: the Debug Adapter Protocol, "Overview" (launch sequencing: `initialized`, configuration, `configurationDone`).
 * Invariant: every request has one answer; a request that moves the machine is answered before it moves. Nothing that a
 * client sends throws: what is wrong with it is its answer.
 */
import { didYouMean } from '../../abi/did-you-mean.js';
import { HarnessError } from '../../abi/errors.js';
import type { Resume, Stop } from '../debug/resume.js';
import { DapError, text } from './arguments.js';
import type { Arguments } from './arguments.js';
import type { CommandRunner } from './console.js';
import type { DapAnswer, DapEvent, DapRequest } from './messages.js';
import {
  dataBreakpointInfo,
  setDataBreakpoints,
  setEventBreakpoints,
  setFunctionBreakpoints,
  setInstructionBreakpoints,
  setLineBreakpoints,
} from './requests/breakpoints.js';
import { disassemble, readMemory, writeMemory } from './requests/memory.js';
import { moveOf } from './requests/moves.js';
import {
  completions,
  evaluateExpression,
  loadedSources,
  scopes,
  setExpression,
  setVariable,
  sourceText,
  stackTrace,
  threads,
  variables,
} from './requests/stack.js';
import type { AdapterState } from './state.js';
import { describe, stoppedEvent } from './stops.js';

/** What one request comes to. */
export interface Outcome {
  readonly answer: DapAnswer;
  readonly events: readonly DapEvent[];
  /** How the session goes on; null while it stands. */
  readonly resume: Resume | null;
}

type Handler = (state: AdapterState, args: Arguments) => unknown;

// prettier-ignore
const HANDLERS: Readonly<Record<string, Handler>> = {
  threads, stackTrace, scopes, variables, setVariable, setExpression, completions, loadedSources, source: sourceText,
  setBreakpoints: setLineBreakpoints, setFunctionBreakpoints, setInstructionBreakpoints, setDataBreakpoints,
  dataBreakpointInfo, setExceptionBreakpoints: setEventBreakpoints, readMemory, writeMemory, disassemble,
};
const MOVES: readonly string[] = [
  'continue',
  'reverseContinue',
  'next',
  'stepIn',
  'stepOut',
  'stepBack',
];
const EDITS: readonly string[] = ['setVariable', 'setExpression', 'writeMemory'];
const OTHERS = [
  'configurationDone',
  'pause',
  'evaluate',
  'exceptionInfo',
  'terminate',
  'disconnect',
];

/** The adapter of one session. */
export class Adapter {
  readonly #state: AdapterState;
  readonly #runCommand: CommandRunner | null;
  #isConfigured = false;
  /** What a stop that ends a move is called. */
  #reason = 'entry';

  /** `runCommand` runs what a console is given; null where there are expressions alone. */
  constructor(state: AdapterState, runCommand: CommandRunner | null) {
    this.#state = state;
    this.#runCommand = runCommand;
  }

  /** The machine stands only to answer: what it has numbered before is void, and nobody is told. */
  passes(): void {
    this.#state.forget();
  }

  /** Takes in a stop: the events that tell of it. */
  arrive(stop: Stop): readonly DapEvent[] {
    this.#state.forget();
    this.#state.session.pilot.onlyVcpu = null;
    if (!this.#isConfigured) return [];
    const events = [stoppedEvent(stop, this.#reason)];
    const { cause } = stop;
    const isNews =
      cause.kind === 'finding' ||
      cause.kind === 'ended' ||
      (cause.kind === 'breakpoint' && cause.findings.length > 0);
    return isNews ? [...events, outputEvent(describe(cause))] : events;
  }

  /** Answers a request. */
  handle({ command, arguments: args }: DapRequest, stopOnEntry: boolean): Outcome {
    try {
      return this.#handled(command, args, stopOnEntry);
    } catch (error) {
      if (!(error instanceof HarnessError)) throw error;
      return { answer: { isDone: false, message: error.message }, events: [], resume: null };
    }
  }

  #handled(command: string, args: Arguments, stopOnEntry: boolean): Outcome {
    const handler = Object.hasOwn(HANDLERS, command) ? HANDLERS[command] : undefined;
    if (handler !== undefined) {
      const body = handler(this.#state, args);
      const events = EDITS.includes(command) ? [invalidated()] : [];
      return { answer: { isDone: true, body }, events, resume: null };
    }
    if (MOVES.includes(command)) return this.#moved(command, args);
    switch (command) {
      case 'configurationDone':
        return this.#configured(stopOnEntry);
      case 'evaluate':
        return this.#evaluated(args);
      case 'exceptionInfo':
        return done({ exceptionId: 'finding', breakMode: 'always', description: this.#finding() });
      case 'pause':
        return done();
      case 'terminate':
      case 'disconnect':
        return { ...done(), resume: { kind: 'quit' } };
      default: {
        const known = [...Object.keys(HANDLERS), ...MOVES, ...OTHERS];
        const what = `no request "${command}" here${didYouMean(command, known)}`;
        throw new DapError('UNKNOWN_REQUEST', what);
      }
    }
  }

  #configured(stopOnEntry: boolean): Outcome {
    this.#isConfigured = true;
    if (stopOnEntry) return { ...done(), events: [stoppedEvent(this.#state.stop, 'entry')] };
    return { ...done(), resume: { kind: 'continue' } };
  }

  #moved(command: string, args: Arguments): Outcome {
    const isBack = command === 'stepBack' || command === 'reverseContinue';
    const { session } = this.#state;
    if (session.isOver && !isBack) {
      return { ...done(), events: [{ event: 'terminated', body: {} }], resume: { kind: 'quit' } };
    }
    const resume = moveOf(this.#state, command, args);
    this.#reason = command === 'continue' || command === 'reverseContinue' ? 'breakpoint' : 'step';
    const body = command === 'continue' ? { allThreadsContinued: true } : {};
    return { ...done(body), resume };
  }

  #evaluated(args: Arguments): Outcome {
    const isConsole = args['context'] === 'repl';
    if (!isConsole || this.#runCommand === null) {
      return done(evaluateExpression(this.#state, args));
    }
    const ran = this.#runCommand(text(args, 'expression'));
    if (ran === null) return done(evaluateExpression(this.#state, args));
    const body = { result: ran.output.trimEnd(), variablesReference: 0 };
    this.#reason = 'step';
    const events = ran.resume === null ? [invalidated()] : [continued()];
    return { ...done(body), events, resume: ran.resume };
  }

  #finding(): string {
    return describe(this.#state.stop.cause);
  }
}

function done(body: unknown = {}): Outcome {
  return { answer: { isDone: true, body }, events: [], resume: null };
}

/** The client asks again for what it shows. */
function invalidated(): DapEvent {
  return { event: 'invalidated', body: { areas: ['all'] } };
}

function continued(): DapEvent {
  return { event: 'continued', body: { threadId: 1, allThreadsContinued: true } };
}

function outputEvent(line: string): DapEvent {
  return { event: 'output', body: { category: 'console', output: `${line}\n` } };
}
