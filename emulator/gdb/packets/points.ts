/**
 * Breakpoints and watchpoints: `Z` and `z`.
 *
 * Source: GDB manual, "Remote Protocol", "Packets" (`Z` packets must be idempotent).
 * Not modelled: conditions and commands on the stub's side; GDB evaluates its own.
 */
import { parseAddress, parseCount } from '../bytes.js';
import { MALFORMED, OK, REFUSED, UNSUPPORTED, type GdbSession, type Reply } from '../session.js';
import type { GdbPoint } from '../target.js';

const KINDS: readonly GdbPoint['kind'][] = ['software', 'hardware', 'write', 'read', 'access'];
/** GDB splits larger regions; more is a mistake. */
const MOST_WATCHED = 4096;

function pointOf(text: string): GdbPoint | null | 'unknown' {
  const [type, first, second] = (text.split(';')[0] ?? '').split(',');
  const kind = /^\d$/.test(type ?? '') ? KINDS[Number(type)] : undefined;
  const address = parseAddress(first);
  const sizeBytes = parseCount(second);
  if (kind === undefined) return 'unknown';
  if (address === null || sizeBytes === null || sizeBytes > MOST_WATCHED) return null;
  const isWatch = kind !== 'software' && kind !== 'hardware';
  return isWatch && sizeBytes === 0 ? null : { kind, address, sizeBytes };
}

function keyOf({ kind, address, sizeBytes }: GdbPoint): string {
  return `${kind} ${String(address)} ${String(sizeBytes)}`;
}

/** `Z type,address,kind`. */
export function setPoint(session: GdbSession, text: string): Reply {
  const point = pointOf(text);
  if (point === 'unknown') return UNSUPPORTED;
  if (point === null) return MALFORMED;
  const key = keyOf(point);
  if (session.points.has(key)) return OK;
  if (!session.target.setPoint(point)) return REFUSED;
  session.points.set(key, point);
  return OK;
}

/** `z type,address,kind`. */
export function clearPoint(session: GdbSession, text: string): Reply {
  const point = pointOf(text);
  if (point === 'unknown') return UNSUPPORTED;
  if (point === null) return MALFORMED;
  if (!session.points.delete(keyOf(point))) return OK;
  return session.target.clearPoint(point) ? OK : REFUSED;
}
