/** A scenario's step that could not be taken: what was asked for, and what the host answered. */
import { HarnessError } from '../../../abi/errors.js';
import type { ErrnoName } from '../../../abi/luo.js';
import type { Step } from '../scenario/schema.js';
import type { Result } from '../../host/result.js';

export type ConductorErrorCode =
  'HOST_REFUSED' | 'PAYLOAD_REFUSED' | 'PAYLOAD_MISSING' | 'STEP_OUT_OF_ORDER';
/** A step that could not be taken: `details` has the step, the call and the errno. */
export class ConductorError extends HarnessError<ConductorErrorCode> {}

/** The value of a call; `expected` is the errno that a step had wanted. @throws ConductorError HOST_REFUSED with the errno. */
export function must<T>(result: Result<T>, call: string, expected?: ErrnoName): T {
  if (result.ok) return result.value;
  const { errno } = result;
  const instead = expected === undefined ? '' : `, where the step expects -${expected}`;
  throw new ConductorError('HOST_REFUSED', `${call}: -${errno}${instead}`, { call, errno });
}

/** A step that was to be refused and was not. @throws ConductorError HOST_REFUSED. */
export function unfulfilled(step: string, expected: ErrnoName | undefined): void {
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

/** The same, saying which of the scenario's steps it is; what the host refused stays as it is. */
export function placed(error: ConductorError, step: Step, index: number): ConductorError {
  const { code, details } = error;
  if (code !== 'STEP_OUT_OF_ORDER') return error;
  const field = `steps.${index}.${Object.keys(step)[0]!}`;
  const message = `${field}: ${String(details['rule'])}`;
  return new ConductorError(code, message, { ...details, field }, { cause: error });
}
