/**
 * Unsigned 64-bit values: the one place that wraps, narrows and prints them.
 *
 * Source of truth: the architecture; a register, address or MSR has 64 bits and no sign.
 * Invariant: every bigint that leaves here is in [0, 2^64).
 */

/** 2^64 - 1. */
export const U64_MAX = 0xffff_ffff_ffff_ffffn;

/** Wraps to [0, 2^64). Every value from a library or a native call passes here once. */
export function u64(value: bigint | number): bigint {
  return BigInt.asUintN(64, typeof value === 'bigint' ? value : BigInt(value));
}

/** Wraps to [0, 2^32). */
export function u32(value: bigint | number): number {
  return typeof value === 'number' ? value >>> 0 : Number(BigInt.asUintN(32, value));
}

/** The low half of a 64-bit value, as EAX is of RAX. */
export function low32(value: bigint): number {
  return Number(BigInt.asUintN(32, value));
}

/** The high half of a 64-bit value, as EDX is in EDX:EAX. */
export function high32(value: bigint): number {
  return Number(BigInt.asUintN(32, value >> 32n));
}

/** EDX:EAX or any other pair of halves as one value. */
export function joinHalves(high: number, low: number): bigint {
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}

/** The value as a signed 64-bit number, for displacements and differences. */
export function s64(value: bigint): bigint {
  return BigInt.asIntN(64, value);
}

const MAX_INDEX = BigInt(Number.MAX_SAFE_INTEGER);

/**
 * Narrows to an exact number, for use as an index, offset or count.
 *
 * @throws RangeError when the value does not fit in 53 bits; a wrong offset must not round to a near one.
 */
export function toIndex(value: bigint): number {
  if (value < 0n || value > MAX_INDEX) {
    throw new RangeError(`${hex(value)} is no exact index`);
  }
  return Number(value);
}

/** `0x` and lower-case digits, unsigned; `width` pads to that many digits. */
export function hex(value: bigint | number, width = 0): string {
  const digits = (typeof value === 'bigint' ? BigInt.asUintN(64, value) : value).toString(16);
  return `0x${digits.padStart(width, '0')}`;
}

/**
 * Whether a linear address is canonical: bits 63:47 all equal (SDM, "Canonical Addressing"; 48-bit linear addresses).
 */
export function isCanonical(address: bigint): boolean {
  return BigInt.asUintN(64, BigInt.asIntN(48, address)) === address;
}

/** Rounds up to a multiple of `alignment`, a power of two. */
export function alignUp(value: bigint, alignment: bigint): bigint {
  return (value + alignment - 1n) & ~(alignment - 1n);
}
