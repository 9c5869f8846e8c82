/** What an exploration refuses. */
import { HarnessError } from '../../abi/errors.js';

export type ExploreErrorCode = 'SCHEDULE_INVALID' | 'STEP_IMPOSSIBLE';
/** Something to explore that there is not: `details` has the part and the rule. */
export class ExploreError extends HarnessError<ExploreErrorCode> {}
