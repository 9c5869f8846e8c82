/**
 * The main thread's side: frames of the protocol on two streams, and the session in a thread of its own.
 *
 * Source: the Debug Adapter Protocol; @vscode/debugadapter for framing and sequence numbers.
 * Invariant: requests are posted in the order in which they came; the client hears `initialized` when the machine stands
 * at its first stop, so that every breakpoint can be told at once whether it holds.
 */
import { DebugSession as ProtocolSession, Event, Response } from '@vscode/debugadapter';
import type { DebugProtocol } from '@vscode/debugprotocol';
import { Worker } from 'node:worker_threads';
import { HarnessError } from '../../abi/errors.js';
import { MailboxSender } from '../debug/mailbox.js';
import type { Scenario } from '../machine/scenario/schema.js';
import { record } from './arguments.js';
import type { Arguments } from './arguments.js';
import { INTERRUPT, RUNNING } from './controller.js';
import type { DapAnswer, DapRequest, DapWorkerData, FromSession, ToSession } from './messages.js';
import { FILTERS } from './requests/breakpoints.js';

/** What `launch` begins. */
export interface Launch {
  readonly scenario: Scenario;
  readonly payload: Uint8Array;
  readonly payloadFile: string;
  readonly root: string;
  readonly stopOnEntry: boolean;
}

/** Reads the files that a launch configuration names. @throws HarnessError. */
export type ReadLaunch = (configuration: Arguments) => Launch;

const CAPABILITIES: DebugProtocol.Capabilities = {
  supportsConfigurationDoneRequest: true,
  supportsFunctionBreakpoints: true,
  supportsConditionalBreakpoints: true,
  supportsHitConditionalBreakpoints: true,
  supportsEvaluateForHovers: true,
  supportsStepBack: true,
  supportsSetVariable: true,
  supportsSetExpression: true,
  supportsCompletionsRequest: true,
  completionTriggerCharacters: ['$', '.'],
  supportsExceptionFilterOptions: true,
  supportsExceptionInfoRequest: true,
  supportsValueFormattingOptions: true,
  supportTerminateDebuggee: true,
  supportsTerminateRequest: true,
  supportsLoadedSourcesRequest: true,
  supportsReadMemoryRequest: true,
  supportsWriteMemoryRequest: true,
  supportsDisassembleRequest: true,
  supportsInstructionBreakpoints: true,
  supportsDataBreakpoints: true,
  supportsSteppingGranularity: true,
  supportsSingleThreadExecutionRequests: true,
  exceptionBreakpointFilters: FILTERS.map((filter) => ({ ...filter })),
};

/** Serves one client until it or the session ends; settles when both have. */
export function serveDap(
  input: NodeJS.ReadableStream,
  output: NodeJS.WritableStream,
  readLaunch: ReadLaunch,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const server = new DapServer(readLaunch, resolve, reject);
    server.start(input, output);
    // A file or a device that is read to its end does not close.
    input.on('end', () => {
      server.shutdown();
    });
  });
}

class DapServer extends ProtocolSession {
  readonly #readLaunch: ReadLaunch;
  readonly #end: () => void;
  readonly #fail: (error: unknown) => void;
  readonly #mailbox = new MailboxSender<ToSession>();
  readonly #words = new Int32Array(new SharedArrayBuffer(8));
  #worker: Worker | null = null;
  #isLeaving = false;
  /** Requests that the session's thread has not answered, by number. */
  readonly #waiting = new Map<number, DebugProtocol.Request>();

  constructor(readLaunch: ReadLaunch, end: () => void, fail: (error: unknown) => void) {
    super();
    this.#readLaunch = readLaunch;
    this.#end = end;
    this.#fail = fail;
  }

  /** The stream has closed: nobody is there to answer. */
  override shutdown(): void {
    this.#isLeaving = true;
    if (this.#worker === null) this.#end();
    else this.#close();
  }

  protected override dispatchRequest(request: DebugProtocol.Request): void {
    try {
      this.#dispatch(request);
    } catch (error) {
      if (!(error instanceof HarnessError)) throw error;
      this.#answer(request, { isDone: false, message: error.message });
    }
  }

  #dispatch(request: DebugProtocol.Request): void {
    const { command } = request;
    const isEnd = command === 'disconnect' || command === 'terminate';
    if (command === 'initialize') {
      this.#answer(request, { isDone: true, body: CAPABILITIES });
    } else if (command === 'launch') {
      this.#launch(request);
    } else if (command === 'attach') {
      const message = 'there is nothing to attach to; use a launch configuration';
      this.#answer(request, { isDone: false, message });
    } else if (this.#worker !== null) {
      this.#forward(request);
      // Ending is a request for the session's thread, which may be far away.
      if (isEnd) this.#interrupt();
    } else if (isEnd) {
      this.#answer(request, { isDone: true, body: {} });
      this.#end();
    } else {
      const message = `"${command}" before a launch that worked`;
      this.#answer(request, { isDone: false, message });
    }
    if (command === 'disconnect') this.#isLeaving = true;
  }

  #launch(request: DebugProtocol.Request): void {
    if (this.#worker !== null) {
      this.#answer(request, { isDone: false, message: 'launched already' });
      return;
    }
    const launch = this.#readLaunch(record(request.arguments));
    const { receiver } = this.#mailbox;
    const data: DapWorkerData = { ...launch, words: this.#words, mailbox: receiver };
    const worker = new Worker(new URL('./dap-worker.js', import.meta.url), {
      workerData: data,
      transferList: [receiver.port],
    });
    this.#worker = worker;
    worker.on('error', (error) => {
      this.#fail(error);
    });
    worker.on('message', (message: FromSession) => {
      this.#hear(message, request);
    });
  }

  #hear(message: FromSession, launch: DebugProtocol.Request): void {
    switch (message.kind) {
      case 'ready':
        this.#answer(launch, { isDone: true, body: {} });
        this.sendEvent(new Event('initialized'));
        return;
      case 'answer': {
        const request = this.#waiting.get(message.request.seq);
        this.#waiting.delete(message.request.seq);
        if (request !== undefined) this.#answer(request, message.answer);
        return;
      }
      case 'event':
        this.sendEvent(new Event(message.event.event, message.event.body));
        return;
      case 'ended':
        this.#ended(message.failure, launch);
    }
  }

  /** The session is over, or never began. */
  #ended(failure: string | null, launch: DebugProtocol.Request): void {
    if (failure !== null) {
      this.#answer(launch, { isDone: false, message: failure });
      const output = `${failure}\n`;
      this.sendEvent(new Event('output', { category: 'stderr', output }));
    }
    for (const request of this.#waiting.values()) {
      this.#answer(request, { isDone: false, message: 'the session is over' });
    }
    this.#waiting.clear();
    this.#worker = null;
    this.#mailbox.close();
    if (this.#isLeaving) this.#end();
    // The client takes its leave then.
    else this.sendEvent(new Event('terminated'));
  }

  #forward(request: DebugProtocol.Request): void {
    const { seq, command } = request;
    const forwarded: DapRequest = { seq, command, arguments: record(request.arguments) };
    this.#waiting.set(seq, request);
    this.#mailbox.post({ kind: 'request', request: forwarded });
    const isRunning = Atomics.load(this.#words, RUNNING) === 1;
    if (command === 'pause' || isRunning) this.#interrupt();
  }

  #answered = new Set<number>();

  #answer(request: DebugProtocol.Request, answer: DapAnswer): void {
    if (this.#answered.has(request.seq)) return;
    this.#answered.add(request.seq);
    const response: DebugProtocol.Response = new Response(request);
    if (answer.isDone) response.body = answer.body;
    else {
      response.success = false;
      response.message = answer.message;
      response.body = {
        error: { id: 1, format: '{reason}', variables: { reason: answer.message }, showUser: true },
      };
    }
    this.sendResponse(response);
  }

  #interrupt(): void {
    Atomics.store(this.#words, INTERRUPT, 1);
  }

  #close(): void {
    this.#mailbox.post({ kind: 'closed' });
    this.#interrupt();
  }
}
