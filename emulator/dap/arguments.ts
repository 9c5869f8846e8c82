/**
 * Arguments of requests, read with care: a client's mistake is an answer and not a crash.
 *
 * Source: the Debug Adapter Protocol.
 */
import { HarnessError } from '../../abi/errors.js';

export type DapErrorCode = 'BAD_ARGUMENT' | 'UNKNOWN_REQUEST' | 'NOT_NOW';
/** A request that is not answered as it asks. */
export class DapError extends HarnessError<DapErrorCode> {}

/** Named values of a request. */
export type Arguments = Readonly<Record<string, unknown>>;

/** An object of named values; empty for anything else. */
export function record(value: unknown): Arguments {
  const isRecord = typeof value === 'object' && value !== null && !Array.isArray(value);
  // SAFETY: an object that is no array has names; its values stay unknown.
  return isRecord ? (value as Arguments) : {};
}

/** A list of objects; empty for anything else. */
export function records(value: unknown): readonly Arguments[] {
  return Array.isArray(value) ? value.map(record) : [];
}

/** A list of texts; what is no text is left out. */
export function texts(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((one): one is string => typeof one === 'string') : [];
}

/** A text. @throws DapError BAD_ARGUMENT when it is missing. */
export function text(args: Arguments, name: string): string {
  const value = args[name];
  if (typeof value === 'string') return value;
  throw new DapError('BAD_ARGUMENT', `${name} is missing or no text`);
}

/** A text, or null. */
export function optionalText(args: Arguments, name: string): string | null {
  const value = args[name];
  return typeof value === 'string' && value.trim() !== '' ? value : null;
}

/** A whole number. @throws DapError BAD_ARGUMENT when it is missing and there is no `otherwise`. */
export function whole(args: Arguments, name: string, otherwise?: number): number {
  const value = args[name] ?? otherwise;
  if (typeof value === 'number' && Number.isSafeInteger(value)) return value;
  throw new DapError('BAD_ARGUMENT', `${name} is missing or no whole number`);
}

/** An address, as memory references and instruction references are written. @throws DapError BAD_ARGUMENT. */
export function address(args: Arguments, name: string): bigint {
  const value = text(args, name);
  if (/^(0[xX][0-9a-fA-F]{1,16}|\d{1,19})$/.test(value)) return BigInt(value);
  throw new DapError('BAD_ARGUMENT', `${name} "${value}" is no address`);
}
