/**
 * What a user asks of the source level and cannot have: a location, a name or an expression, with the place of the
 * mistake.
 *
 * Invariant: the message is whole sentences that a face shows as they are.
 */
import { HarnessError } from '../../../abi/errors.js';

export type SourceErrorCode =
  | 'EXPRESSION_SYNTAX'
  | 'EXPRESSION_NAME'
  | 'EXPRESSION_TYPE'
  | 'EXPRESSION_VALUE'
  | 'LOCATION'
  | 'FORMAT'
  | 'MEMORY';

/** A question about the source that has no answer; `details.column` counts from 0 where there is one. */
export class SourceError extends HarnessError<SourceErrorCode> {}

/** Refuses an expression at a column, with a caret below it. @throws SourceError always. */
export function refuseAt(
  code: SourceErrorCode,
  message: string,
  text: string,
  column: number,
): never {
  const line = text.replaceAll('\t', ' ');
  const picture = `  ${line}\n  ${' '.repeat(column)}^`;
  throw new SourceError(code, `${message}\n${picture}`, { column, text });
}
