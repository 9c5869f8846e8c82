/**
 * Requests of a client as wishes of the session, and the session's stops as GDB's.
 *
 * Invariant: going backwards, a watchpoint stops where the value is still the old one: GDB compares, and takes a stop
 * behind the write for none.
 */
import { unreachable } from '../../abi/errors.js';
import type { Cause, Resume } from '../debug/resume.js';
import type { GdbPoint, GdbRequest, GdbStopCause } from './target.js';

/** SIGABRT: the machine found a fault of the payload's. */
const FINDING_SIGNAL = 6;

/** The saved state that a restart goes back to; no user can give a state this name. */
export const FIRST_STOP = '(first stop)';

/** The point that each breakpoint of the session stands for. */
export type PointOfBreakpoint = (id: number) => GdbPoint | undefined;

/** What the session is to do; null for what only the caller knows. */
export function resumeOf(request: GdbRequest): Resume | null {
  switch (request.kind) {
    case 'step':
      return { kind: 'step', backwards: request.isBackwards };
    case 'continue':
      return request.isBackwards
        ? { kind: 'continue', backwards: true, undoes: true }
        : { kind: 'continue' };
    case 'range':
      return { kind: 'step-range', ranges: [{ start: request.begin, end: request.end }] };
    case 'restart':
      return { kind: 'restore', name: FIRST_STOP };
    case 'command':
      return null;
    default:
      return unreachable(request);
  }
}

/** Why the machine stopped, in GDB's words. */
export function gdbCauseOf(cause: Cause, pointOf: PointOfBreakpoint): GdbStopCause {
  switch (cause.kind) {
    case 'start':
    case 'done':
    case 'exit-ends':
    case 'not-reached':
      return { kind: 'step' };
    case 'breakpoint': {
      const points = cause.breakpoints.map(({ id }) => pointOf(id));
      const point = points.find((one) => one !== undefined);
      if (point === undefined) return { kind: 'step' };
      return point.kind === 'software' || point.kind === 'hardware'
        ? { kind: point.kind }
        : { kind: point.kind, address: point.address };
    }
    case 'finding':
      return { kind: 'signal', signal: FINDING_SIGNAL };
    case 'interrupted':
      return { kind: 'interrupt' };
    case 'history-start':
      return { kind: 'history-begin' };
    case 'ended':
      return { kind: 'history-end' };
    default:
      return unreachable(cause);
  }
}

/** What a user is told beside the stop. */
export function messageOf(cause: Cause): string {
  switch (cause.kind) {
    case 'finding':
      return cause.findings.map(({ invariant, message }) => `${invariant}: ${message}\n`).join('');
    case 'ended':
      return cause.error === null
        ? 'The scenario is over; there is only the way back.\n'
        : `The scenario is over: ${cause.error.message}\n`;
    case 'not-reached':
      return `Not reached: ${cause.why}.\n`;
    default:
      return '';
  }
}

/** Whether a stop that was come to backwards lies behind a write that is to be undone first. */
export function isBehindWatched(cause: Cause, pointOf: PointOfBreakpoint): boolean {
  const { kind } = gdbCauseOf(cause, pointOf);
  return kind === 'write' || kind === 'read' || kind === 'access';
}
