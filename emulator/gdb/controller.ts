/**
 * A GDB stub as a controller of a session: at every stop it serves its client until that wants the machine to move.
 *
 * Invariant: a wish to stop is never lost: it is looked for once more after the shared word was cleared, and whoever
 * sets the word posts the bytes first.
 */
import type { Controller, Resume } from '../debug/resume.js';
import { SessionTarget, type CommandLine } from './session-target.js';
import { GdbStub, type StubOutput } from './stub.js';
import type { GdbRequest } from './target.js';

/** What comes from where the clients are. */
export type ChannelEvent =
  | { readonly kind: 'connected' }
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  | { readonly kind: 'gone' }
  /** Nobody will come any more. */
  | { readonly kind: 'closed' };

/** The way to the client. */
export interface Channel {
  /** Waits for the next event. */
  receive(): ChannelEvent;
  /** The next event if there is one. */
  poll(): ChannelEvent | null;
  /** To the client that is there. */
  send(bytes: Uint8Array): void;
  /** Sends it away. */
  hangUp(): void;
}

/** What a controller is made of. */
export interface GdbControllerParts {
  readonly channel: Channel;
  /** The payload's file, as a client may open it. */
  readonly path: string;
  readonly commands: CommandLine;
  /** The word that stops a session; the same as the session's. */
  readonly interrupt: Int32Array;
  /** Called once, when there is something to be looked at. */
  readonly onReady: () => void;
}

/** A controller that serves one client after the other. */
export function gdbController(parts: GdbControllerParts): Controller {
  let served: Serving | null = null;
  return (session, stop) => {
    const target = served?.target ?? new SessionTarget(session, parts.path, parts.commands);
    const movesOn = target.arrive(stop);
    if (movesOn !== null) return movesOn;
    if (served === null) {
      served = new Serving(parts, target);
      parts.onReady();
    }
    return served.serve();
  };
}

class Serving {
  readonly target: SessionTarget;
  readonly #parts: GdbControllerParts;
  readonly #stub: GdbStub;

  constructor(parts: GdbControllerParts, target: SessionTarget) {
    this.#parts = parts;
    this.target = target;
    this.#stub = new GdbStub(target);
  }

  /** From one stop to the wish that ends it. */
  serve(): Resume {
    let request = this.#perform(this.#stub.stopped());
    for (;;) {
      if (request?.kind === 'restart') return this.target.resume(request);
      if (request !== null && this.target.stopsAgain(request)) {
        request = this.#perform(this.#stub.stopped());
        continue;
      }
      const event = request === null ? this.#parts.channel.receive() : this.#lastLook();
      if (event === null) return this.#depart(request!);
      if (event.kind === 'closed') return { kind: 'quit' };
      const wanted = this.#take(event);
      // What a client wanted goes with it.
      request = wanted ?? (this.#stub.isMoving ? request : null);
    }
  }

  #take(event: Exclude<ChannelEvent, { kind: 'closed' }>): GdbRequest | null {
    switch (event.kind) {
      case 'connected':
        this.#stub.connected();
        return null;
      case 'gone':
        this.#stub.disconnected();
        return null;
      case 'bytes':
        return this.#perform(this.#stub.receive(event.bytes));
    }
  }

  #perform(output: StubOutput): GdbRequest | null {
    const { channel } = this.#parts;
    if (output.bytes.length > 0) channel.send(output.bytes);
    if (output.hangsUp) {
      channel.hangUp();
      this.#stub.disconnected();
    }
    return output.request;
  }

  /** What has come since the request; the word is cleared first, so that it stays set for what comes behind this look. */
  #lastLook(): ChannelEvent | null {
    Atomics.store(this.#parts.interrupt, 0, 0);
    return this.#parts.channel.poll();
  }

  #depart(request: GdbRequest): Resume {
    if (this.#stub.isInterrupted) Atomics.store(this.#parts.interrupt, 0, 1);
    return this.target.resume(request);
  }
}
