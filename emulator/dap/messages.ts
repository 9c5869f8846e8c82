/**
 * What the thread with the streams and the thread with the session say to each other.
 *
 * Source: the Debug Adapter Protocol (`Request`, `Response`, `Event`).
 * Invariant: a request is answered once; what the session says of itself comes as events.
 */
import type { MailboxEnd } from '../debug/mailbox.js';
import type { Scenario } from '../machine/scenario/schema.js';

/** A request of the protocol. */
export interface DapRequest {
  readonly seq: number;
  readonly command: string;
  readonly arguments: Readonly<Record<string, unknown>>;
}

/** An answer; `body` of one that succeeded, `message` of one that did not. */
export type DapAnswer =
  | { readonly isDone: true; readonly body: unknown }
  | { readonly isDone: false; readonly message: string };

/** An event of the protocol. */
export interface DapEvent {
  readonly event: string;
  readonly body: Readonly<Record<string, unknown>>;
}

/** What a session's thread begins with. */
export interface DapWorkerData {
  readonly scenario: Scenario;
  readonly payload: Uint8Array;
  /** The payload's file, beside which its sources are looked for. */
  readonly payloadFile: string;
  /** The folder with the reference payload's sources. */
  readonly root: string;
  readonly stopOnEntry: boolean;
  /** Shared words: INTERRUPT and RUNNING of the controller. */
  readonly words: Int32Array;
  readonly mailbox: MailboxEnd;
}

/** To the session. */
export type ToSession =
  | { readonly kind: 'request'; readonly request: DapRequest }
  /** The client is gone. */
  | { readonly kind: 'closed' };

/** From the session. */
export type FromSession =
  /** The machine stands at its first stop. */
  | { readonly kind: 'ready' }
  | { readonly kind: 'answer'; readonly request: DapRequest; readonly answer: DapAnswer }
  | { readonly kind: 'event'; readonly event: DapEvent }
  /** The session has ended; `failure` says which known error ended it. */
  | { readonly kind: 'ended'; readonly failure: string | null };
