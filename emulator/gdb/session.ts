/**
 * What one client has said so far: its selections and its breakpoints. A new client gets a new one.
 *
 * Invariant: whatever a client leaves behind in the machine is in `points`, so that it can be taken away.
 */
import type { GdbPoint, GdbRequest, GdbTarget, GdbThread } from './target.js';

/** What a packet's handler answers: the body of the reply, or null for none now. */
export type Reply = string | null;

/** Reply to what is not understood at all: GDB then knows that the stub does not have it. */
export const UNSUPPORTED = '';
/** Reply to a packet with a fault in it. */
export const MALFORMED = 'E16';
/** Reply to an address that nothing answers at. */
export const BAD_ADDRESS = 'E0e';
/** Reply to what the machine refuses. */
export const REFUSED = 'E01';
/** All is well. */
export const OK = 'OK';

/** A client's session. */
export interface GdbSession {
  readonly target: GdbTarget;
  /** Thread of register and memory packets. */
  thread: number;
  /** Thread that old resume packets step. */
  resumeThread: number;
  /** Memory packets mean physical addresses. */
  isPhysical: boolean;
  isAcknowledged: boolean;
  /** Base that qOffsets told, null until then: libraries are the other images. */
  mainImage: bigint | null;
  /** Images that the client was told of as libraries, null until it asks. */
  toldImages: readonly bigint[] | null;
  readonly points: Map<string, GdbPoint>;
  readonly openFiles: Map<number, Uint8Array>;
  /** What the handler wants on the client's console, before its reply. */
  printed: string;
  /** What the handler wants of the machine; the reply comes after it. */
  request: GdbRequest | null;
  /** The client is done. */
  hangsUp: boolean;
}

/** The session of a client that has just come. */
export function newSession(target: GdbTarget): GdbSession {
  const { thread } = target.stop();
  return {
    target,
    thread,
    resumeThread: thread,
    isPhysical: false,
    isAcknowledged: true,
    mainImage: null,
    toldImages: null,
    points: new Map(),
    openFiles: new Map(),
    printed: '',
    request: null,
    hangsUp: false,
  };
}

/** Takes away what a client left in the machine. */
export function endSession(session: GdbSession): void {
  for (const point of session.points.values()) session.target.clearPoint(point);
  session.points.clear();
  session.openFiles.clear();
}

/** The thread of an id, which may be 0 or -1 (any), and have a process in front; null when there is none such. */
export function threadOf(session: GdbSession, text: string): GdbThread | null {
  const id = /^(?:p-?[0-9a-f]+\.)?(-?[0-9a-f]{1,8})$/i.exec(text)?.[1];
  if (id === undefined) return null;
  const threads = session.target.threads();
  const number = Number.parseInt(id, 16);
  const wanted = number <= 0 ? session.target.stop().thread : number;
  return threads.find((thread) => thread.id === wanted) ?? null;
}
