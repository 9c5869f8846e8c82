/**
 * The adapter as a controller of a session: at every stop it serves its client until that wants the machine to move.
 *
 * Invariant: a request that comes while the machine runs stops it, is answered, and unless it was a pause the machine
 * goes on as it was going. Whoever sets the word that stops it posts the request first, and the word that it runs is set
 * before the last look at what waits, so that no request is left lying.
 */
import type { Controller, Resume, Stop } from '../debug/resume.js';
import type { DebugSession } from '../debug/session.js';
import type { SourceLevel } from '../debug/source/source-level.js';
import { Adapter } from './adapter.js';
import { replRunner } from './console.js';
import type { FromSession, ToSession } from './messages.js';
import { AdapterState } from './state.js';

/** The word that stops a session. */
export const INTERRUPT = 0;
/** Whether a request must stop the session to be answered soon. */
export const RUNNING = 1;

/** The way to the client. */
export interface Channel {
  /** Waits for the next message. */
  receive(): ToSession;
  /** The next message if there is one. */
  poll(): ToSession | null;
  post(message: FromSession): void;
}

/** What a controller is made of. */
export interface DapControllerParts {
  readonly channel: Channel;
  readonly level: SourceLevel;
  readonly stopOnEntry: boolean;
  /** INTERRUPT is the session's own; RUNNING is 1 while the machine runs for long. */
  readonly words: Int32Array;
}

/** A controller that serves one client. */
export function dapController(parts: DapControllerParts): Controller {
  let served: Serving | null = null;
  return (session, stop) => {
    served ??= new Serving(parts, session);
    return served.serve(stop);
  };
}

class Serving {
  readonly #parts: DapControllerParts;
  readonly #adapter: Adapter;
  #isReady = false;
  #isPaused = false;
  /** How the machine was last told to go. */
  #under: Resume | null = null;

  constructor(parts: DapControllerParts, session: DebugSession) {
    this.#parts = parts;
    const state = new AdapterState(session, parts.level);
    this.#adapter = new Adapter(state, replRunner(state));
  }

  /** From one stop to the wish that ends it. */
  serve(stop: Stop): Resume {
    const { channel, words } = this.#parts;
    Atomics.store(words, RUNNING, 0);
    if (stop.cause.kind === 'interrupted') {
      this.#adapter.passes();
      const wanted = this.#answerWaiting();
      if (wanted !== null) return this.#depart(wanted);
      if (!this.#isPaused && this.#under !== null) return this.#depart(this.#under);
    }
    this.#isPaused = false;
    for (const event of this.#adapter.arrive(stop)) channel.post({ kind: 'event', event });
    if (!this.#isReady) {
      this.#isReady = true;
      channel.post({ kind: 'ready' });
    }
    for (;;) {
      const wanted = this.#take(channel.receive());
      if (wanted !== null) return this.#depart(wanted);
    }
  }

  /** Lets the machine go, unless what came at the last moment wants something else. */
  #depart(resume: Resume): Resume {
    const { words } = this.#parts;
    this.#isPaused = false;
    this.#under = resume;
    Atomics.store(words, INTERRUPT, 0);
    // Only these are the same wish where they were interrupted as where they began.
    if (resume.kind === 'continue' || resume.kind === 'end') Atomics.store(words, RUNNING, 1);
    const wanted = this.#answerWaiting();
    if (wanted !== null) return this.#depart(wanted);
    if (this.#isPaused) Atomics.store(words, INTERRUPT, 1);
    return resume;
  }

  /** Answers what waits; a wish to move that is among it. */
  #answerWaiting(): Resume | null {
    const { channel } = this.#parts;
    for (let next = channel.poll(); next !== null; next = channel.poll()) {
      this.#isPaused ||= next.kind === 'request' && next.request.command === 'pause';
      const wanted = this.#take(next);
      if (wanted !== null) return wanted;
    }
    return null;
  }

  #take(message: ToSession): Resume | null {
    if (message.kind === 'closed') return { kind: 'quit' };
    const { channel, stopOnEntry } = this.#parts;
    const { request } = message;
    const { answer, events, resume } = this.#adapter.handle(request, stopOnEntry);
    channel.post({ kind: 'answer', request, answer });
    for (const event of events) channel.post({ kind: 'event', event });
    return resume;
  }
}
