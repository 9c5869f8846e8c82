/**
 * Going on: `c`, `C`, `s`, `S`, `vCont`, `bc`, `bs`, and starting over.
 *
 * Source: GDB manual, "Remote Protocol", "Packets" (`vCont`: the leftmost action that names a thread is its action).
 * Invariant: all pCPUs go on and stop together; which one moves is the machine's to decide, so an action for one
 * thread says whose step ends the request. A signal to deliver means nothing here and is dropped.
 */
import { parseAddress, parseCount } from '../bytes.js';
import {
  MALFORMED,
  OK,
  REFUSED,
  UNSUPPORTED,
  threadOf,
  type GdbSession,
  type Reply,
} from '../session.js';
import type { GdbRequest } from '../target.js';

const RIP = 'rip';

function go(session: GdbSession, request: GdbRequest): Reply {
  session.request = request;
  return null;
}

/** The thread that a packet without one moves. */
function mover(session: GdbSession): number {
  return threadOf(session, session.resumeThread.toString(16))?.id ?? session.target.stop().thread;
}

/** Null when it is set, else the reply that says why not. */
function setRip(session: GdbSession, thread: number, text: string): Reply {
  const address = parseAddress(text);
  if (address === null) return MALFORMED;
  const number = session.target.registers.findIndex(({ name }) => name === RIP);
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, address, true);
  return session.target.writeRegister(thread, number, bytes) ? null : REFUSED;
}

function resume(session: GdbSession, kind: 'step' | 'continue', address: string): Reply {
  const thread = kind === 'step' ? mover(session) : session.target.stop().thread;
  if (address !== '') {
    const refusal = setRip(session, thread, address);
    if (refusal !== null) return refusal;
  }
  return go(session, { kind, thread, isBackwards: false });
}

/** `c [address]`. */
export function continueOn(session: GdbSession, text: string): Reply {
  return resume(session, 'continue', text);
}

/** `s [address]`. */
export function step(session: GdbSession, text: string): Reply {
  return resume(session, 'step', text);
}

function withSignal(session: GdbSession, kind: 'step' | 'continue', text: string): Reply {
  const [signal, address, ...rest] = text.split(';');
  if (parseCount(signal) === null || rest.length > 0) return MALFORMED;
  return resume(session, kind, address ?? '');
}

/** `C signal[;address]`. */
export function continueWithSignal(session: GdbSession, text: string): Reply {
  return withSignal(session, 'continue', text);
}

/** `S signal[;address]`. */
export function stepWithSignal(session: GdbSession, text: string): Reply {
  return withSignal(session, 'step', text);
}

/** `bc`. */
export function continueBackwards(session: GdbSession): Reply {
  return go(session, { kind: 'continue', thread: session.target.stop().thread, isBackwards: true });
}

/** `bs`. */
export function stepBackwards(session: GdbSession): Reply {
  return go(session, { kind: 'step', thread: mover(session), isBackwards: true });
}

/** `vCont?`. */
export function actions(): Reply {
  return 'vCont;c;C;s;S;t;r';
}

const ACTION = /^(?:c|s|t|[CS][0-9a-f]{2}|r([0-9a-f]{1,16}),([0-9a-f]{1,16}))$/i;

/** `vCont;action[:thread]...`. */
export function resumeWithActions(session: GdbSession, text: string): Reply {
  let continues = false;
  for (const part of text.split(';')) {
    const [action = '', name] = part.split(':');
    const match = ACTION.exec(action);
    if (match === null) return MALFORMED;
    const isAll = name === undefined || /^(?:p-?[0-9a-f]+\.)?-1$/i.test(name);
    const thread = isAll ? session.target.stop().thread : threadOf(session, name)?.id;
    if (thread === undefined) return REFUSED;
    const begin = parseAddress(match[1]);
    const end = parseAddress(match[2]);
    if (begin !== null && end !== null) return go(session, { kind: 'range', thread, begin, end });
    if (/^s/i.test(action)) return go(session, { kind: 'step', thread, isBackwards: false });
    if (/^c/i.test(action)) continues = true;
  }
  if (!continues) return UNSUPPORTED;
  const { thread } = session.target.stop();
  return go(session, { kind: 'continue', thread, isBackwards: false });
}

/** `vRun`: from the first stop again. */
export function run(session: GdbSession): Reply {
  return go(session, { kind: 'restart', isAnnounced: true });
}

/** `R`: the same, without a reply. */
export function restart(session: GdbSession): Reply {
  return go(session, { kind: 'restart', isAnnounced: false });
}

/** `D`: the client goes and the machine stays where it is. */
export function detach(session: GdbSession): Reply {
  session.hangsUp = true;
  return OK;
}

/** `k`: the client goes, and the next one finds the machine at the first stop. */
export function kill(session: GdbSession): Reply {
  session.hangsUp = true;
  return restart(session);
}

/** `vKill;process`: as `k`, but the client may stay to start over. */
export function killProcess(session: GdbSession): Reply {
  restart(session);
  return OK;
}
