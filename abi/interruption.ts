/**
 * Interruption information: the format that VM-entry injection, VM-exit information and IDT-vectoring information
 * share, and the interruptibility and activity states.
 *
 * Source: SDM, "VM-Entry Controls for Event Injection", "Information for VM Exits Due to Vectored Events",
 * "Information for VM Exits That Occur During Event Delivery", "Guest Non-Register State"; Linux
 * arch/x86/include/asm/vmx.h (INTR_INFO_*, GUEST_INTR_STATE_*, GUEST_ACTIVITY_*).
 * Invariant: masks are unsigned numbers; a word is valid exactly when bit 31 is set.
 */

// prettier-ignore
/** Fields of an interruption-information word. */
export const INTR_INFO = {
  VECTOR_MASK:       0x0000_00ff,
  TYPE_MASK:         0x0000_0700,
  TYPE_SHIFT:        8,
  DELIVER_CODE:      0x0000_0800,
  /** NMI unblocking due to IRET in VM-exit and IDT-vectoring information; reserved in VM-entry information. */
  UNBLOCK_NMI:       0x0000_1000,
  /** Nested exception: VM-entry information with FRED. */
  NESTED_EXCEPTION:  0x0000_2000,
  VALID:             0x8000_0000,
  /** Bits that must be 0 in VM-entry interruption information (without FRED). */
  ENTRY_RESERVED:    0x7fff_f000,
} as const;

// prettier-ignore
/** Interruption types. */
export const INTR_TYPE = {
  EXT_INTR:           0,
  RESERVED:           1,
  NMI_INTR:           2,
  HARD_EXCEPTION:     3,
  SOFT_INTR:          4,
  PRIV_SW_EXCEPTION:  5,
  SOFT_EXCEPTION:     6,
  OTHER_EVENT:        7,
} as const;

/** The name of an interruption type. */
export type InterruptionType = keyof typeof INTR_TYPE;

// prettier-ignore
/** Bits of GUEST_INTERRUPTIBILITY_INFO. */
export const INTERRUPTIBILITY = {
  STI:           0x01,
  MOV_SS:        0x02,
  SMI:           0x04,
  NMI:           0x08,
  ENCLAVE_INTR:  0x10,
  RESERVED:      0xffff_ffe0,
} as const;

// prettier-ignore
/** Values of GUEST_ACTIVITY_STATE. */
export const ACTIVITY = {
  ACTIVE:     0,
  HLT:        1,
  SHUTDOWN:   2,
  WAIT_SIPI:  3,
} as const;

// prettier-ignore
/** Bits of GUEST_PENDING_DBG_EXCEPTIONS. */
export const PENDING_DBG = {
  B_MASK:              0x0f,
  BLD:                 0x800,
  ENABLED_BREAKPOINT:  0x1000,
  BS:                  0x4000,
  RTM:                 0x10000,
  /** Without one of BS and ENABLED_BREAKPOINT nothing is pending. */
  VALID:               0x5000,
} as const;

// prettier-ignore
/** Exception vectors. */
export const VECTOR = {
  DE: 0, DB: 1, NMI: 2, BP: 3, OF: 4, BR: 5, UD: 6, NM: 7, DF: 8, TS: 10, NP: 11, SS: 12, GP: 13, PF: 14,
  MF: 16, AC: 17, MC: 18, XM: 19, VE: 20, CP: 21,
} as const;

/** The vectors whose hardware exceptions push an error code. */
export const ERROR_CODE_VECTORS: ReadonlySet<number> = new Set([8, 10, 11, 12, 13, 14, 17, 21]);

/** An interruption-information word, decoded once. */
export interface InterruptionInfo {
  readonly vector: number;
  readonly type: number;
  readonly deliverCode: boolean;
  readonly unblockNmi: boolean;
  readonly valid: boolean;
}

/** Takes an interruption-information word apart. */
export function decodeInterruption(word: number): InterruptionInfo {
  return {
    vector: word & INTR_INFO.VECTOR_MASK,
    type: (word & INTR_INFO.TYPE_MASK) >>> INTR_INFO.TYPE_SHIFT,
    deliverCode: (word & INTR_INFO.DELIVER_CODE) !== 0,
    unblockNmi: (word & INTR_INFO.UNBLOCK_NMI) !== 0,
    valid: (word & INTR_INFO.VALID) !== 0,
  };
}

/** A valid interruption-information word, unsigned. */
export function encodeInterruption(
  type: InterruptionType,
  vector: number,
  bits: { readonly deliverCode?: boolean; readonly unblockNmi?: boolean } = {},
): number {
  const word =
    INTR_INFO.VALID |
    (INTR_TYPE[type] << INTR_INFO.TYPE_SHIFT) |
    (bits.deliverCode === true ? INTR_INFO.DELIVER_CODE : 0) |
    (bits.unblockNmi === true ? INTR_INFO.UNBLOCK_NMI : 0) |
    (vector & INTR_INFO.VECTOR_MASK);
  return word >>> 0;
}
