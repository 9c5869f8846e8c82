/** A scenario's step that could not be taken: what was asked for, and what the host answered. */
import { HarnessError } from '../../../abi/errors.js';
import type { Result } from '../../host/result.js';

export type ConductorErrorCode =
  'HOST_REFUSED' | 'PAYLOAD_REFUSED' | 'PAYLOAD_MISSING' | 'STEP_OUT_OF_ORDER';
/** A step that could not be taken: `details` has the step, the call and the errno. */
export class ConductorError extends HarnessError<ConductorErrorCode> {}

/** The value of a call. @throws ConductorError HOST_REFUSED with the errno. */
export function must<T>(result: Result<T>, call: string): T {
  if (result.ok) return result.value;
  throw new ConductorError('HOST_REFUSED', `${call}: -${result.errno}`, {
    call,
    errno: result.errno,
  });
}

/** A step that was to be refused and was not. @throws ConductorError HOST_REFUSED. */
export function unfulfilled(step: string, expected: string | undefined): void {
  if (expected === undefined) return;
  throw new ConductorError(
    'HOST_REFUSED',
    `step ${step}: expected -${expected}, and it succeeded`,
    {
      call: step,
      errno: expected,
    },
  );
}

/** A step that makes no sense where it stands. */
export function outOfOrder(step: string, why: string): ConductorError {
  return new ConductorError('STEP_OUT_OF_ORDER', `step ${step}: ${why}`, { step, rule: why });
}
