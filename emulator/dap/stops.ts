/**
 * Why the machine stopped, in the protocol's words.
 *
 * Source: the Debug Adapter Protocol (`StoppedEvent`, `ExceptionInfoResponse`).
 */
import { unreachable } from '../../abi/errors.js';
import { hex } from '../../abi/uint.js';
import { hitText } from '../debug/breakpoints.js';
import { printPosition } from '../debug/position.js';
import type { Cause, Stop } from '../debug/resume.js';
import type { Finding } from '../vmx/stop-reason.js';
import type { DapEvent } from './messages.js';

const CODE_KINDS: readonly string[] = ['address', 'code'];

/** The event of a stop; `reason` says what the client did to bring it about. */
export function stoppedEvent(stop: Stop, reason: string): DapEvent {
  const { cause, vcpu } = stop;
  const hits = cause.kind === 'breakpoint' ? cause.breakpoints.map(({ id }) => id) : [];
  const said = describe(cause);
  return {
    event: 'stopped',
    body: {
      reason: reasonOf(cause, reason),
      description: `${said} at ${printPosition(stop.position)}`,
      text: said,
      ...(vcpu === null ? {} : { threadId: vcpu + 1 }),
      allThreadsStopped: true,
      ...(hits.length === 0 ? {} : { hitBreakpointIds: hits }),
    },
  };
}

function reasonOf(cause: Cause, asked: string): string {
  switch (cause.kind) {
    case 'start':
    case 'history-start':
      return 'entry';
    case 'done':
    case 'exit-ends':
      return asked;
    case 'breakpoint': {
      const kinds = cause.breakpoints.map(({ spec }) => spec.kind);
      if (kinds.some((kind) => CODE_KINDS.includes(kind))) return 'breakpoint';
      return kinds.includes('watch') ? 'data breakpoint' : 'breakpoint';
    }
    case 'finding':
      return 'exception';
    case 'interrupted':
    case 'ended':
    case 'not-reached':
      return 'pause';
    default:
      return unreachable(cause);
  }
}

const findingText = ({ invariant, message }: Finding): string => `${invariant}: ${message}`;

/** A stop's cause as a sentence. */
export function describe(cause: Cause): string {
  switch (cause.kind) {
    case 'start':
      return 'the first VM exit';
    case 'done':
      return 'done';
    case 'exit-ends':
      return 'the exit is answered';
    case 'breakpoint':
      return [
        ...cause.breakpoints.map(hitText),
        ...cause.changes.map(({ before, after }) => `${hex(before)} became ${hex(after)}`),
        ...cause.findings.map(findingText),
      ].join(', ');
    case 'finding':
      return cause.findings.map(findingText).join('\n');
    case 'interrupted':
      return 'paused';
    case 'history-start':
      return 'there is nothing before this';
    case 'ended':
      return [
        ...cause.findings.map(findingText),
        cause.error === null
          ? 'the scenario is over; there is only the way back'
          : `the scenario is over: ${cause.error.message}`,
      ].join('\n');
    case 'not-reached':
      return `not reached: ${cause.why}`;
    default:
      return unreachable(cause);
  }
}
