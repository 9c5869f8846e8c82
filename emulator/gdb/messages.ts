/**
 * What the thread with the socket and the thread with the session say to each other.
 *
 * Invariant: clients are numbered, so that what is meant for one never reaches the next.
 */
import type { MailboxEnd } from '../debug/mailbox.js';
import type { Scenario } from '../machine/scenario/schema.js';

/** What a session's thread begins with. */
export interface GdbWorkerData {
  readonly scenario: Scenario;
  readonly payload: Uint8Array;
  readonly path: string;
  /** The folder that has the sources of the reference payload. */
  readonly root: string;
  readonly interrupt: Int32Array;
  readonly mailbox: MailboxEnd;
}

/** To the session. */
export type ToSession =
  | { readonly kind: 'connected'; readonly client: number }
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  | { readonly kind: 'gone' }
  | { readonly kind: 'closed' };

/** From the session. */
export type FromSession =
  /** The machine stands at its first stop. */
  | { readonly kind: 'ready' }
  | { readonly kind: 'send'; readonly client: number; readonly bytes: Uint8Array }
  | { readonly kind: 'hang-up'; readonly client: number }
  /** The session has ended; `failure` when an error of a known kind ended it. */
  | { readonly kind: 'ended'; readonly failure: SessionFailure | null };

/** An error as it crosses from one thread to the other. */
export interface SessionFailure {
  readonly code: string;
  readonly message: string;
  readonly details: Readonly<Record<string, unknown>>;
}
