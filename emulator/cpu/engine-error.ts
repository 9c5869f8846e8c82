/** What the engine refuses, by code. */
import { HarnessError } from '../../abi/errors.js';

export type EngineErrorCode =
  | 'ENGINE_NOT_BUILT'
  | 'ENGINE_DISPOSED'
  | 'MAPPING_NOT_IDENTITY'
  | 'MAPPING_UNALIGNED'
  | 'MAPPING_OUTSIDE_MEMORY'
  | 'MAPPING_OVERLAP'
  | 'ADDRESS_SPACE_DISPOSED'
  | 'ADDRESS_SPACE_OF_ANOTHER_ENGINE'
  | 'WATCH_ON_CODE'
  | 'WATCH_OUTSIDE_MEMORY'
  | 'NO_INSTRUCTION_THERE';

export class EngineError extends HarnessError<EngineErrorCode> {}
