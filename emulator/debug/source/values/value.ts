/**
 * A value with its type, its bytes, and the place that a change would be written to.
 *
 * Invariant: `bytes` are a copy; a value without bytes says why.
 */
import { extractBits, unsignedOf } from '../../../../loader/dwarf/c-types.js';
import type { CInteger, CType } from '../../../../loader/dwarf/c-types.js';
import { s64, u64 } from '../../../../abi/uint.js';
import type { FieldName } from '../../../../abi/vmcs-fields.js';
import type { RegisterName } from '../../../cpu/registers.js';

/** Where a value is kept; `bits` is of a bit field in its storage unit, or of a part of a register. */
export type Place =
  | { readonly kind: 'memory'; readonly address: bigint }
  | { readonly kind: 'register'; readonly register: RegisterName; readonly bitOffset: number }
  | { readonly kind: 'vmcs'; readonly field: FieldName }
  | { readonly kind: 'msr'; readonly index: number }
  /** Computed: nothing to write to. */
  | { readonly kind: 'none' };

/** Bits of a storage unit. */
export interface BitRange {
  readonly offset: number;
  readonly size: number;
}

/** A value that is there. */
export interface Value {
  readonly type: CType;
  readonly place: Place;
  readonly bytes: Uint8Array;
  readonly bits: BitRange | null;
}

/** A value that is not: the compiler kept none, or the memory cannot be read. */
export interface NoValue {
  readonly type: CType;
  readonly problem: string;
}

export type MaybeValue = Value | NoValue;

/** Whether the value is there. */
export function isThere(value: MaybeValue): value is Value {
  return 'bytes' in value;
}

const integer = (spelling: string, sizeBytes: number, isSigned: boolean): CInteger => ({
  kind: 'integer',
  spelling,
  sizeBytes,
  isSigned,
  meaning: 'number',
});

/** The types that expressions compute with. */
export const U64 = integer('u64', 8, false);
export const S64 = integer('s64', 8, true);
export const U32 = integer('u32', 4, false);
export const U16 = integer('u16', 2, false);
export const U8 = integer('u8', 1, false);

/** Little-endian bytes of a number. */
export function bytesOf(value: bigint, sizeBytes: number): Uint8Array {
  const bytes = new Uint8Array(Math.max(sizeBytes, 8));
  new DataView(bytes.buffer).setBigUint64(0, u64(value), true);
  return bytes.slice(0, sizeBytes);
}

/** A computed number. */
export function numberValue(value: bigint, type: CType = S64): Value {
  return { type, place: { kind: 'none' }, bytes: bytesOf(value, type.sizeBytes), bits: null };
}

/** Whether a type is one number: an integer, an enumeration or a pointer. */
export function isScalar(type: CType): boolean {
  return type.kind === 'integer' || type.kind === 'enumeration' || type.kind === 'pointer';
}

/** Whether a number of the type may be below 0. */
export function isSigned(type: CType): boolean {
  return (type.kind === 'integer' || type.kind === 'enumeration') && type.isSigned;
}

/** The number that a scalar holds: below 0 when its type has a sign and it is. */
export function scalarOf({ type, bytes, bits }: Value): bigint {
  const raw = unsignedOf(bytes);
  const signed = isSigned(type);
  const width = bits?.size ?? Math.min(bytes.length, 8) * 8;
  const value = extractBits(raw, bits?.offset ?? 0, width, signed);
  return signed ? s64(value) : value;
}
