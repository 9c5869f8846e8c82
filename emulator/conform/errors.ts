/**
 * What can keep the second machine from answering.
 *
 * Source: STYLE ("Errors"): the outside world gave something bad, so each is a typed error.
 */
import { HarnessError } from '../../abi/errors.js';

/** Why there is no answer. */
export type ConformErrorCode =
  | 'BOCHS_MISSING'
  | 'BOCHS_TIMEOUT'
  | 'BOCHS_BROKEN'
  | 'PAYLOAD_ENDLESS'
  | 'ROM_BUILD_FAILED'
  | 'ANSWER_MALFORMED'
  | 'PEER_CASE';

/** An error of the second machine or of what goes to it. */
export class ConformError extends HarnessError<ConformErrorCode> {}
