/**
 * Values that mean something to a Caretaker, from the tables of abi/: what a mutation puts into a field.
 *
 * Source: abi/exit-reasons.ts, abi/msrs.ts, abi/x2apic.ts, abi/interruption.ts; SDM for the edges of each field.
 */
import { EXIT_REASON } from '../../abi/exit-reasons.js';
import { encodeInterruption, VECTOR } from '../../abi/interruption.js';
import { MSR } from '../../abi/msrs.js';
import { X2APIC } from '../../abi/x2apic.js';

/** Basic reasons, and the numbers around the table's end and its holes. */
export const REASONS: readonly number[] = [...Object.values(EXIT_REASON), 35, 38, 42, 71, 127, 255];

/** RCX of RDMSR and WRMSR. */
export const MSR_INDICES: readonly bigint[] = [
  ...Object.values(MSR),
  ...Object.values(X2APIC),
  0x7ff,
  0x8ff,
  0x900,
  0x1fff,
  0x2000,
  0xbfff_ffff,
  0xc000_1fff,
  0xc000_2000,
].map((index) => BigInt(index >>> 0));

/** RAX of CPUID. */
export const LEAVES: readonly bigint[] = [
  0x0, 0x1, 0x2, 0x4, 0x6, 0x7, 0xb, 0xd, 0x15, 0x16, 0x17, 0x1f, 0x4000_0000, 0x4000_0001,
  0x4fff_ffff, 0x7fff_ffff, 0x8000_0000, 0x8000_0001, 0x8000_0008, 0x8000_0009, 0xffff_ffff,
].map(BigInt);

/** Numbers at the edges of 64-bit registers. */
export const EDGES: readonly bigint[] = [
  0n,
  1n,
  0x7fn,
  0x80n,
  0xffn,
  0x100n,
  0xffffn,
  0x7fff_ffffn,
  0x8000_0000n,
  0xffff_ffffn,
  0x1_0000_0000n,
  0x7fff_ffff_ffff_ffffn,
  0x8000_0000_0000_0000n,
  0xffff_ffff_ffff_ffffn,
];

/** RIPs: at both ends of the canonical halves, and where an advance wraps. */
export const RIPS: readonly bigint[] = [
  0n,
  0x1000n,
  0xffff_fffen,
  0xffff_ffffn,
  0x7fff_ffff_fff0n,
  0xffff_8000_0000_0000n,
  0xffff_ffff_8100_0000n,
  0xffff_ffff_ffff_fff0n,
];

/** Interruption information of events that exit or are being delivered. */
export const INTERRUPTIONS: readonly (readonly [info: number, errorCode: number])[] = [
  [encodeInterruption('NMI_INTR', VECTOR.NMI), 0],
  [encodeInterruption('HARD_EXCEPTION', VECTOR.MC), 0],
  [encodeInterruption('HARD_EXCEPTION', VECTOR.DB), 0],
  [encodeInterruption('HARD_EXCEPTION', VECTOR.UD), 0],
  [encodeInterruption('HARD_EXCEPTION', VECTOR.PF, { deliverCode: true }), 2],
  [encodeInterruption('HARD_EXCEPTION', VECTOR.GP, { deliverCode: true }), 0],
  [encodeInterruption('HARD_EXCEPTION', VECTOR.DF, { deliverCode: true }), 0],
  [encodeInterruption('EXT_INTR', 0x41), 0],
  [encodeInterruption('EXT_INTR', 0xec), 0],
  [encodeInterruption('EXT_INTR', 0xf2), 0],
  [encodeInterruption('SOFT_INTR', 0x80), 0],
  [encodeInterruption('SOFT_EXCEPTION', VECTOR.BP), 0],
];

/** Physical vectors: the lowest, a device's, strays, the notification vector, the highest. */
export const VECTORS: readonly number[] = [16, 31, 32, 0x41, 0x51, 0xec, 0xef, 0xf2, 0xfe, 0xff];
