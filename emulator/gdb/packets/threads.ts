/**
 * Threads: `H`, `T`, `qC`, `qfThreadInfo`, `qsThreadInfo`, `qThreadExtraInfo`.
 *
 * Source: GDB manual, "Remote Protocol", "Packets" and "General Query Packets".
 */
import { hexOfString } from '../bytes.js';
import {
  MALFORMED,
  OK,
  REFUSED,
  UNSUPPORTED,
  threadOf,
  type GdbSession,
  type Reply,
} from '../session.js';

/** `H op thread`. */
export function selectThread(session: GdbSession, text: string): Reply {
  const thread = threadOf(session, text.slice(1));
  if (thread === null) return REFUSED;
  if (text.startsWith('g')) session.thread = thread.id;
  else if (text.startsWith('c')) session.resumeThread = thread.id;
  else return UNSUPPORTED;
  return OK;
}

/** `T thread`: whether it is there. */
export function isAlive(session: GdbSession, text: string): Reply {
  return threadOf(session, text) === null ? REFUSED : OK;
}

/** `qC`: the thread that stopped. */
export function currentThread({ target }: GdbSession): Reply {
  return `QC${target.stop().thread.toString(16)}`;
}

/** `qfThreadInfo`: all of them fit into one reply. */
export function firstThreads({ target }: GdbSession): Reply {
  return `m${target
    .threads()
    .map(({ id }) => id.toString(16))
    .join(',')}`;
}

/** `qsThreadInfo`: no more. */
export function moreThreads(): Reply {
  return 'l';
}

/** `qThreadExtraInfo,thread`. */
export function extraInfo(session: GdbSession, text: string): Reply {
  const thread = threadOf(session, text);
  return thread === null ? MALFORMED : hexOfString(thread.state);
}
