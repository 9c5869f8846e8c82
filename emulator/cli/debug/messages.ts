/** What the thread of the terminal and the thread of the session say to each other. */
import type { Completions } from '../../debug/repl/asking.js';
import type { MailboxEnd } from '../../debug/mailbox.js';
import type { Scenario } from '../../machine/scenario/schema.js';

/** What is debugged. */
export interface Debuggee {
  readonly scenario: Scenario;
  readonly payload: Uint8Array;
  readonly file: string;
}

/** What the session's thread begins with. */
export interface WorkerData extends Debuggee {
  readonly mailbox: MailboxEnd;
  readonly interrupt: Int32Array;
  readonly columns: number;
}

/** A line that was typed, null at the end of input, and how wide the terminal is now. */
export interface Typed {
  readonly line: string | null;
  readonly columns: number;
}

/** From the session's thread. */
export type FromSession =
  | { readonly kind: 'print'; readonly line: string }
  | { readonly kind: 'ask'; readonly completions: Completions }
  | { readonly kind: 'failed'; readonly code: string; readonly message: string }
  | { readonly kind: 'ended' };
