/** What a user of the command line can get wrong, as typed errors; exit-status.ts gives them their status. */
import { HarnessError } from '../../abi/errors.js';

export type CliUsageErrorCode =
  | 'MISSING_COMMAND'
  | 'MISSING_ARGUMENT'
  | 'UNKNOWN_COMMAND'
  | 'UNKNOWN_OPTION'
  | 'UNEXPECTED_ARGUMENT'
  | 'BAD_VALUE'
  | 'FILE_UNREADABLE'
  | 'FILE_UNWRITABLE';

/** Bad usage or unreadable input; `details.command` names the command whose --help would have told. */
export class CliUsageError extends HarnessError<CliUsageErrorCode> {}

/** Text of a user's own, as in a file's name, must not move the cursor or change colours. */
export const visible = (text: string): string =>
  text.replaceAll(/[^\P{Cc}\n\t]|\p{Cf}/gu, (unseen) => JSON.stringify(unseen).slice(1, -1));

/** A file's name in a message: as it is, or in quotes where it could not be seen otherwise. */
export function shownName(file: string): string {
  return visible(file === '' || /\s/.test(file) ? `"${file}"` : file);
}

/** Why the system refused a file, without the call and the path, which the message names already. */
export function systemReason(cause: unknown): string {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return reason.replace(/, \w+( '.*')?$/, '');
}

/** Input that was read and refused, with the file it came from; `code` is the code of its cause. */
export class RefusedFileError extends HarnessError {
  /** Puts the name of the file to a refusal of its content. */
  static of(file: string, cause: HarnessError): RefusedFileError {
    const details = { ...cause.details, file };
    return new RefusedFileError(cause.code, cause.message, details, { cause });
  }
}
