/** What a user of the command line can get wrong, as typed errors; exit-status.ts gives them their status. */
import { HarnessError } from '../../abi/errors.js';

export type CliUsageErrorCode =
  | 'MISSING_COMMAND'
  | 'UNKNOWN_COMMAND'
  | 'UNKNOWN_OPTION'
  | 'UNEXPECTED_ARGUMENT'
  | 'MISSING_ARGUMENT'
  | 'BAD_VALUE'
  | 'FILE_UNREADABLE';

/** Bad usage or unreadable input; `details.command` names the command whose --help would have told. */
export class CliUsageError extends HarnessError<CliUsageErrorCode> {}

/** Input that was read and refused, with the file it came from; `code` is the code of its cause. */
export class RefusedFileError extends HarnessError {
  /** Puts the name of the file to a refusal of its content. */
  static of(file: string, cause: HarnessError): RefusedFileError {
    const details = { ...cause.details, file };
    return new RefusedFileError(cause.code, cause.message, details, { cause });
  }
}
