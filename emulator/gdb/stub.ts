/**
 * The stub: bytes from a client in; bytes to it, and requests to the machine, out.
 *
 * Source: GDB manual, "Remote Protocol".
 * Invariant: pure of sockets and time; what comes out depends on the bytes and the target alone, not on how the bytes
 * were split. Nothing a client sends makes it throw. While the machine moves, packets wait and only the interrupt byte
 * counts.
 */
import { HarnessError } from '../../abi/errors.js';
import { hexOfString } from './bytes.js';
import { answer } from './commands.js';
import { FrameReader, packetOf, type Frame } from './framing.js';
import { OK, UNSUPPORTED, endSession, newSession, type GdbSession } from './session.js';
import { stopReply } from './stop-reply.js';
import type { GdbRequest, GdbTarget } from './target.js';

/** What the stub wants done, in this order. */
export interface StubOutput {
  /** To the client. */
  readonly bytes: Uint8Array;
  /** The connection ends after `bytes`. */
  readonly hangsUp: boolean;
  /** Of the machine; stopped() says that it is done. */
  readonly request: GdbRequest | null;
}

const ACK = Uint8Array.of(0x2b);
const NAK = Uint8Array.of(0x2d);
/** Console output of one packet, in characters. */
const OUTPUT_CHUNK = 2048;
/** Packets that wait for the machine to stop; a client that behaves sends none. */
const MOST_WAITING = 256;

/** Turns a client's bytes into requests, and stops into replies. */
export class GdbStub {
  readonly #target: GdbTarget;
  #session: GdbSession;
  #frames = new FrameReader();
  /** Packets that came while the machine moved. */
  #waiting: Frame[] = [];
  /** A frame that was looked at and comes before all others, whether the machine moves or not. */
  #ahead: Frame | null = null;
  #output: Uint8Array[] = [];
  /** For a client that asks for it again. */
  #lastReply: Uint8Array | null = null;
  /** The request that the machine has not finished. */
  #moving: GdbRequest | null = null;
  #isInterrupted = false;
  #hangsUp = false;
  /** No packet of this client has been answered. */
  #isNew = true;

  constructor(target: GdbTarget) {
    this.#target = target;
    this.#session = newSession(target);
  }

  /** Whether the machine owes the client a stop. */
  get isMoving(): boolean {
    return this.#moving !== null;
  }

  /** Whether the client has asked the moving machine to stop. */
  get isInterrupted(): boolean {
    return this.#isInterrupted;
  }

  /** A client has come: nothing of the one before it is left. */
  connected(): void {
    this.disconnected();
    this.#session = newSession(this.#target);
    this.#frames = new FrameReader();
    this.#waiting = [];
    this.#ahead = null;
    this.#output = [];
    this.#lastReply = null;
    this.#hangsUp = false;
    this.#isNew = true;
  }

  /** The client has gone, with or without a word. */
  disconnected(): void {
    endSession(this.#session);
    this.#moving = null;
    this.#isInterrupted = false;
  }

  /** Takes bytes as they come. */
  receive(bytes: Uint8Array): StubOutput {
    this.#frames.push(bytes);
    return this.#work();
  }

  /** The machine has done what it was asked; what the client has said meanwhile is answered now. */
  stopped(): StubOutput {
    const request = this.#moving;
    this.#moving = null;
    this.#isInterrupted = false;
    if (request !== null && isAwaited(request)) {
      const { thread, message } = this.#target.stop();
      this.#session.thread = thread;
      this.#session.resumeThread = thread;
      this.#print(message);
      this.#reply(request.kind === 'command' ? OK : stopReply(this.#session));
    }
    return this.#work();
  }

  #work(): StubOutput {
    let request: GdbRequest | null = null;
    while (!this.#hangsUp) {
      const frame = this.#nextFrame();
      if (frame === null) break;
      const wanted = this.#handle(frame);
      request ??= wanted;
    }
    const result = {
      bytes: joined(this.#output),
      hangsUp: this.#hangsUp,
      request,
    };
    this.#output = [];
    return result;
  }

  #nextFrame(): Frame | null {
    const ahead = this.#ahead;
    this.#ahead = null;
    if (ahead !== null) return ahead;
    const waiting = this.#moving === null ? this.#waiting.shift() : undefined;
    return waiting ?? this.#frames.next();
  }

  #handle(frame: Frame): GdbRequest | null {
    switch (frame.kind) {
      case 'ack':
        this.#lastReply = null;
        return null;
      case 'nak':
        if (this.#lastReply !== null) this.#output.push(this.#lastReply);
        return null;
      case 'interrupt':
        // Of no use to a machine that stands still: its stop reply is on the way.
        this.#isInterrupted ||= this.#moving !== null;
        return null;
      case 'packet':
      case 'oversized':
        if (this.#moving === null) return this.#packet(frame);
        if (this.#waiting.length < MOST_WAITING) this.#waiting.push(frame);
        return null;
    }
  }

  #packet(frame: Frame & { readonly kind: 'packet' | 'oversized' }): GdbRequest | null {
    const session = this.#session;
    if (session.isAcknowledged) {
      const isIntact = frame.kind === 'oversized' || frame.isIntact;
      this.#output.push(isIntact ? ACK : NAK);
      if (!isIntact) return null;
    }
    if (frame.kind === 'oversized') {
      this.#reply(UNSUPPORTED);
      return null;
    }
    if (this.#isNew && session.isAcknowledged) this.#dropRepeats(frame.body);
    this.#isNew = false;
    const reply = this.#answer(frame.body);
    this.#print(session.printed);
    session.printed = '';
    if (reply !== null) this.#reply(reply);
    this.#moving = session.request;
    this.#hangsUp = session.hangsUp;
    session.request = null;
    return this.#moving;
  }

  /** A client that had to wait for a server to come up has said its first word more than once. */
  #dropRepeats(body: string): void {
    let frame = this.#nextFrame();
    while (frame?.kind === 'packet' && frame.body === body) frame = this.#nextFrame();
    this.#ahead = frame;
  }

  /** What the machine refuses with a reason is a reply with that reason. */
  #answer(body: string): string | null {
    try {
      return answer(this.#session, body);
    } catch (error) {
      if (!(error instanceof HarnessError)) throw error;
      return `E.${error.message.replace(/[^ -"%-)+-|~]/g, ' ')}`;
    }
  }

  #reply(body: string): void {
    const packet = packetOf(body);
    this.#lastReply = this.#session.isAcknowledged ? packet : null;
    this.#output.push(packet);
  }

  /** Text on the client's console; only valid while the client waits for a stop or a command. */
  #print(text: string): void {
    for (let at = 0; at < text.length; at += OUTPUT_CHUNK) {
      this.#output.push(packetOf(`O${hexOfString(text.slice(at, at + OUTPUT_CHUNK))}`));
    }
  }
}

function isAwaited(request: GdbRequest): boolean {
  return request.kind !== 'restart' || request.isAnnounced;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
