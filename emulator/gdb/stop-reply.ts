/**
 * The reply to a stop.
 *
 * Source: GDB manual, "Remote Protocol", "Stop Reply Packets".
 */
import { unreachable } from '../../abi/errors.js';
import { registerDigits } from './packets/registers.js';
import type { GdbSession } from './session.js';
import type { GdbStopCause } from './target.js';

const SIGINT = 2;
const SIGTRAP = 5;
const WATCHES = { write: 'watch', read: 'rwatch', access: 'awatch' } as const;

function signalOf(cause: GdbStopCause): number {
  if (cause.kind === 'interrupt') return SIGINT;
  return cause.kind === 'signal' ? cause.signal : SIGTRAP;
}

function reasonOf(cause: GdbStopCause): string {
  switch (cause.kind) {
    case 'step':
    case 'interrupt':
    case 'signal':
      return '';
    case 'software':
      return 'swbreak:;';
    case 'hardware':
      return 'hwbreak:;';
    case 'history-begin':
      return 'replaylog:begin;';
    case 'history-end':
      return 'replaylog:end;';
    case 'write':
    case 'read':
    case 'access':
      return `${WATCHES[cause.kind]}:${cause.address.toString(16)};`;
    default:
      return unreachable(cause);
  }
}

/** The `T` packet of the present stop. */
export function stopReply(session: GdbSession): string {
  const { thread, cause } = session.target.stop();
  const signal = signalOf(cause).toString(16).padStart(2, '0');
  let text = `T${signal}thread:${thread.toString(16)};${reasonOf(cause)}`;
  if (hasNewImages(session)) text += 'library:;';
  session.target.registers.forEach((register, number) => {
    if (!register.isExpedited) return;
    text += `${number.toString(16).padStart(2, '0')}:${registerDigits(session, thread, number)};`;
  });
  return text;
}

/** Whether there are other images than the client was told of. */
function hasNewImages({ target, toldImages }: GdbSession): boolean {
  if (toldImages === null) return false;
  const present = target.images();
  return present.length !== toldImages.length || present.some((base) => !toldImages.includes(base));
}
