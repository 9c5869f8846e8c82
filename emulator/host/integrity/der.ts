/**
 * ASN.1 values in DER, as far as signatures and certificates need them.
 *
 * Source: ITU-T X.690, "Distinguished Encoding Rules".
 * Invariant: a value lies inside the bytes that were given; what does not is a DerError, whatever the bytes.
 * Not modelled: indefinite lengths, and tag numbers above 30, which DER signatures do not have.
 */
import { HarnessError } from '../../../abi/errors.js';

/** Bytes that are no DER, or not the value that is wanted. */
export class DerError extends HarnessError<'NOT_DER'> {}

/** One value: its tag byte, its content, and the whole with its header. */
export interface DerValue {
  readonly tag: number;
  readonly content: Uint8Array;
  readonly whole: Uint8Array;
}

/** Tag bytes. */
export const TAG = {
  INTEGER: 0x02,
  OCTET_STRING: 0x04,
  OID: 0x06,
  UTC_TIME: 0x17,
  GENERALIZED_TIME: 0x18,
  SEQUENCE: 0x30,
  SET: 0x31,
} as const;

const CONTEXT = 0xa0;
const CONTEXT_PRIMITIVE = 0x80;

/** The tag of [n], constructed. */
export const context = (n: number): number => CONTEXT | n;
/** The tag of [n], primitive. */
export const contextPrimitive = (n: number): number => CONTEXT_PRIMITIVE | n;

function fail(what: string, at: number): never {
  throw new DerError('NOT_DER', `${what} at byte ${at}`, { offset: at });
}

/** The value that begins at `at`. @throws DerError. */
export function readValue(bytes: Uint8Array, at = 0): DerValue {
  const tag = bytes[at];
  const first = bytes[at + 1];
  if (tag === undefined || first === undefined) return fail('no value', at);
  if ((tag & 0x1f) === 0x1f) fail('a long tag', at);
  let start = at + 2;
  let length = first;
  if (first >= 0x80) {
    const count = first & 0x7f;
    if (count === 0 || count > 4) fail('a length that DER does not have', at);
    length = 0;
    for (let n = 0; n < count; n++) length = length * 256 + (bytes[start + n] ?? fail('cut', at));
    if (length < 0x80 || (count > 1 && bytes[start] === 0))
      fail('a length that is not minimal', at);
    start += count;
  }
  const end = start + length;
  if (end > bytes.length) fail('a value longer than what holds it', at);
  return { tag, content: bytes.subarray(start, end), whole: bytes.subarray(at, end) };
}

/** The values inside a constructed one. @throws DerError. */
export function valuesIn({ content }: DerValue): DerValue[] {
  const found: DerValue[] = [];
  for (let at = 0; at < content.length;) {
    const value = readValue(content, at);
    found.push(value);
    at += value.whole.length;
  }
  return found;
}

/** The one value that the bytes are; nothing may follow. @throws DerError. */
export function onlyValue(bytes: Uint8Array): DerValue {
  const value = readValue(bytes);
  if (value.whole.length !== bytes.length) fail('data behind the value', value.whole.length);
  return value;
}

/** A list of values taken in order, each by its tag. */
export class DerFields {
  readonly #values: readonly DerValue[];
  #next = 0;

  /** @throws DerError when `value` is not of that tag. */
  constructor(value: DerValue | undefined, tag: number = TAG.SEQUENCE) {
    if (value?.tag !== tag) fail('another type than is wanted', 0);
    this.#values = valuesIn(value);
  }

  /** The next value, which has this tag. @throws DerError. */
  take(tag: number): DerValue {
    return this.maybe(tag) ?? fail('another field than is wanted', this.#next);
  }

  /** The next value, if it has this tag. */
  maybe(tag: number): DerValue | undefined {
    const value = this.#values[this.#next];
    if (value?.tag !== tag) return undefined;
    this.#next++;
    return value;
  }

  /** The tag of the next value; undefined at the end. */
  get nextTag(): number | undefined {
    return this.#values[this.#next]?.tag;
  }

  /** @throws DerError when values are left. */
  end(): void {
    if (this.#next < this.#values.length) fail('more fields than there may be', this.#next);
  }
}

/** An object identifier in dots. @throws DerError. */
export function oidOf(value: DerValue | undefined): string {
  if (value?.tag !== TAG.OID || value.content.length === 0) return fail('no object identifier', 0);
  const numbers: number[] = [];
  let number = 0;
  for (const byte of value.content) {
    number = number * 128 + (byte & 0x7f);
    if (number > 0xffff_ffff) fail('an object identifier out of bounds', 0);
    if ((byte & 0x80) !== 0) continue;
    numbers.push(number);
    number = 0;
  }
  const [first = 0, ...rest] = numbers;
  const root = Math.min(2, Math.floor(first / 40));
  return [root, first - root * 40, ...rest].join('.');
}

/** Whether two byte strings are equal. */
export function isSame(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && one.every((byte, n) => byte === other[n]);
}
