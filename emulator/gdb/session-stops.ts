/**
 * Requests of a client as wishes of the session, and the session's stops as GDB's.
 *
 * Invariant: going backwards, a watchpoint stops where the value is still the old one: GDB compares, and takes a stop
 * behind the write for none.
 */
import { unreachable } from '../../abi/errors.js';
import type { Cause, Resume } from '../debug/resume.js';
import type { Finding } from '../vmx/stop-reason.js';
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

/**
 * Why the machine stopped, in GDB's words, which have room for one point: more than one cause where several points were
 * hit. What changed comes first and then alone, because GDB sees a breakpoint at the PC by itself; backwards the other way
 * round, because the change is still to be undone.
 */
export function gdbCausesOf(
  cause: Cause,
  pointOf: PointOfBreakpoint,
  isBackwards: boolean,
): readonly [GdbStopCause, ...GdbStopCause[]] {
  switch (cause.kind) {
    case 'start':
    case 'done':
    case 'exit-ends':
    case 'not-reached':
      return [{ kind: 'step' }];
    case 'breakpoint': {
      const points = cause.breakpoints.flatMap(({ id }) => pointOf(id) ?? []);
      const code = points.find((point) => !isWatch(point));
      const [first, ...more] = points.filter(isWatch);
      if (first !== undefined && (code === undefined || !isBackwards)) {
        return [causeOfPoint(first), ...more.map(causeOfPoint)];
      }
      return [code === undefined ? { kind: 'step' } : causeOfPoint(code)];
    }
    case 'finding':
      return [{ kind: 'signal', signal: FINDING_SIGNAL }];
    case 'interrupted':
      return [{ kind: 'interrupt' }];
    case 'history-start':
      return [{ kind: 'history-begin' }];
    case 'ended':
      return [{ kind: 'history-end' }];
    default:
      return unreachable(cause);
  }
}

/** What a user is told beside the stop. */
export function messageOf(cause: Cause): string {
  switch (cause.kind) {
    case 'finding':
    case 'breakpoint':
      return findingsText(cause.findings);
    case 'ended':
      return `${findingsText(cause.findings)}The scenario is over${
        cause.error === null ? '; there is only the way back.' : `: ${cause.error.message}`
      }\n`;
    case 'not-reached':
      return `Not reached: ${cause.why}.\n`;
    default:
      return '';
  }
}

function findingsText(findings: readonly Finding[]): string {
  return findings.map(({ invariant, message }) => `${invariant}: ${message}\n`).join('');
}

/** Whether a stop is one of a watchpoint's. */
export function isWatch({ kind }: { readonly kind: GdbStopCause['kind'] }): boolean {
  return kind === 'write' || kind === 'read' || kind === 'access';
}

function causeOfPoint({ kind, address }: GdbPoint): GdbStopCause {
  return kind === 'software' || kind === 'hardware' ? { kind } : { kind, address };
}
