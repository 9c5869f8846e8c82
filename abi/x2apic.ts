/**
 * Local APIC registers in x2APIC mode, the interrupt command register and the local vector table.
 *
 * Source: SDM, "x2APIC Register Address Space", "Interrupt Command Register (ICR)", "Local Vector Table".
 * Invariant: the offset of a register in an xAPIC or virtual-APIC page is (index - 0x800) << 4.
 */
import { u64 } from './uint.js';

// prettier-ignore
/** x2APIC registers by MSR index; ISR, TMR and IRR are eight registers each, the first is named. */
export const X2APIC = {
  APICID:         0x802,
  VERSION:        0x803,
  TPR:            0x808,
  PPR:            0x80a,
  EOI:            0x80b,
  LDR:            0x80d,
  SIVR:           0x80f,
  ISR0:           0x810,
  TMR0:           0x818,
  IRR0:           0x820,
  ESR:            0x828,
  LVT_CMCI:       0x82f,
  ICR:            0x830,
  LVT_TIMER:      0x832,
  LVT_THERMAL:    0x833,
  LVT_PMI:        0x834,
  LVT_LINT0:      0x835,
  LVT_LINT1:      0x836,
  LVT_ERROR:      0x837,
  TIMER_INITIAL:  0x838,
  TIMER_CURRENT:  0x839,
  TIMER_DIVIDE:   0x83e,
  SELF_IPI:       0x83f,
} as const;

/** The first x2APIC MSR index. */
export const X2APIC_FIRST = 0x800;
/** The last x2APIC MSR index that has a register. */
export const X2APIC_LAST = 0x83f;

const NAME_BY_INDEX: ReadonlyMap<number, string> = new Map(
  Object.entries(X2APIC).flatMap(([name, first]): (readonly [number, string])[] =>
    name.endsWith('0')
      ? Array.from({ length: 8 }, (_, i) => [first + i, `${name.slice(0, -1)}${i}`])
      : [[first, name]],
  ),
);

/** The SDM's name of an x2APIC MSR, undefined for an index without a register. */
export function x2apicName(index: number): string | undefined {
  const name = NAME_BY_INDEX.get(index);
  return name === undefined ? undefined : `IA32_X2APIC_${name}`;
}

/** What WRMSR and RDMSR may do with an x2APIC register; other combinations raise #GP. */
export type X2apicAccess = 'read-only' | 'write-only' | 'read-write' | 'none';

/** How the x2APIC register at an MSR index may be accessed; `none` for a reserved index. */
export function x2apicAccess(index: number): X2apicAccess {
  if (index >= X2APIC.ISR0 && index < X2APIC.ESR) return 'read-only';
  switch (index) {
    case X2APIC.APICID:
    case X2APIC.VERSION:
    case X2APIC.PPR:
    case X2APIC.LDR:
    case X2APIC.TIMER_CURRENT:
      return 'read-only';
    case X2APIC.EOI:
    case X2APIC.SELF_IPI:
      return 'write-only';
    case X2APIC.TPR:
    case X2APIC.SIVR:
    case X2APIC.ESR:
    case X2APIC.LVT_CMCI:
    case X2APIC.ICR:
    case X2APIC.LVT_TIMER:
    case X2APIC.LVT_THERMAL:
    case X2APIC.LVT_PMI:
    case X2APIC.LVT_LINT0:
    case X2APIC.LVT_LINT1:
    case X2APIC.LVT_ERROR:
    case X2APIC.TIMER_INITIAL:
    case X2APIC.TIMER_DIVIDE:
      return 'read-write';
    default:
      return 'none';
  }
}

/** The offset of an x2APIC register in a virtual-APIC page. */
export function apicPageOffset(index: number): number {
  return (index - X2APIC_FIRST) << 4;
}

// prettier-ignore
/** ICR delivery modes (bits 10:8). */
export const ICR_DELIVERY = {
  FIXED: 0, LOWEST_PRIORITY: 1, SMI: 2, NMI: 4, INIT: 5, STARTUP: 6,
} as const;

// prettier-ignore
/** ICR destination shorthands (bits 19:18). */
export const ICR_SHORTHAND = {
  NONE: 0, SELF: 1, ALL_INCLUDING_SELF: 2, ALL_EXCLUDING_SELF: 3,
} as const;

// prettier-ignore
/** Bits of the low half of the ICR. */
export const ICR = {
  VECTOR_MASK: 0xff, DELIVERY_SHIFT: 8, DELIVERY_MASK: 0x700, LOGICAL: 1 << 11, LEVEL_ASSERT: 1 << 14,
  TRIGGER_LEVEL: 1 << 15, SHORTHAND_SHIFT: 18, SHORTHAND_MASK: 0xc0000,
  RESERVED: 0xfff3_3000,
} as const;

// prettier-ignore
/** Bits of a local-vector-table entry. */
export const LVT = {
  VECTOR_MASK: 0xff, DELIVERY_SHIFT: 8, DELIVERY_MASK: 0x700, PENDING: 1 << 12, POLARITY_LOW: 1 << 13,
  REMOTE_IRR: 1 << 14, TRIGGER_LEVEL: 1 << 15, MASKED: 1 << 16, TIMER_MODE_MASK: 0x60000,
  TIMER_ONE_SHOT: 0, TIMER_PERIODIC: 1 << 17, TIMER_TSC_DEADLINE: 2 << 17,
} as const;

/**
 * Bits that WRMSR may set in the registers that a payload or KVM answers for a guest; another one is #GP (SDM, "x2APIC
 * Register Address Space").
 */
export const X2APIC_WRITABLE: ReadonlyMap<number, bigint> = new Map([
  [X2APIC.TPR, 0xffn],
  [X2APIC.EOI, 0n],
  [X2APIC.SELF_IPI, 0xffn],
  [X2APIC.LVT_TIMER, 0x7_10ffn],
  [X2APIC.ICR, ~u64(ICR.RESERVED) & 0xffff_ffff_ffff_ffffn],
]);

/** Whether WRMSR of one of those registers is #GP. */
export function hasReservedBits(index: number, value: bigint): boolean {
  return (value & ~(X2APIC_WRITABLE.get(index) ?? value)) !== 0n;
}

/** Bit of the spurious-interrupt vector register that enables the local APIC. */
export const SIVR_ENABLE = 1 << 8;

/** The interrupt command register, decoded once. */
export interface IcrWord {
  readonly vector: number;
  readonly delivery: number;
  readonly logical: boolean;
  readonly shorthand: number;
  /** The 32-bit x2APIC destination. */
  readonly destination: number;
}

/** Takes the two halves of an x2APIC ICR write apart. */
export function decodeIcr(low: number, high: number): IcrWord {
  return {
    vector: low & ICR.VECTOR_MASK,
    delivery: (low & ICR.DELIVERY_MASK) >>> ICR.DELIVERY_SHIFT,
    logical: (low & ICR.LOGICAL) !== 0,
    shorthand: (low & ICR.SHORTHAND_MASK) >>> ICR.SHORTHAND_SHIFT,
    destination: high >>> 0,
  };
}
