/**
 * The posted-interrupt descriptor: 64 bytes through which others hand a logical processor virtual interrupts.
 *
 * Source: SDM, "Posted-Interrupt Processing", table "Format of Posted-Interrupt Descriptor"; VT-d specification, "Posted
 * Interrupt Descriptor", for SN, NV and NDST, which the processor does not look at; names are Linux's (asm/posted_intr.h).
 * Invariant: aligned to its size; while an active VMCS names it, it is changed by locked read-modify-writes only.
 */
import { struct } from './layout.js';

// prettier-ignore
export const PI_DESC = struct('caretaker_pi_desc', 64, [
  ['pir', 'u64*4', 0, 'others', 'posted-interrupt requests, a bit a vector'],
  ['control', 'u64', 32, 'others', 'PI_CONTROL'],
  ['reserved', 'u64*3', 40, 'reserved', 'must be 0'],
]);

/** Bits of PI_DESC.control. */
export const PI_CONTROL = {
  /** Outstanding notification: one was sent, and nobody has looked at the requests since. */
  ON: 1n << 0n,
  /** Suppress notification: requests that are not urgent are posted without one. */
  SN: 1n << 1n,
} as const;

/** The notification vector: bits 23:16. */
export const PI_NV_SHIFT = 16n;
/** The notification destination, an x2APIC id: bits 63:32. */
export const PI_NDST_SHIFT = 32n;
