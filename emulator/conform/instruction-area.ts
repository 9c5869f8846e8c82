/**
 * Where instruction sequences run on both machines: their own tables, gates, handlers and stacks.
 *
 * Source: SDM, "4-Level Paging", "64-Bit Mode Task Management", "IDT Gate Descriptors in 64-bit mode".
 * Invariant: everything is an identity; only CODE and HANDLERS can be executed, as the payload's tables have it. A handler
 * begins with ENDBR64 and halts, which ends a sequence; that of RETURNING returns.
 */
import {
  IST_GATE,
  RETURNING_THROUGH_IST,
  RETURN_TO,
  SHADOW,
  WITHOUT_ENDBRANCH,
} from './enforcement-area.js';
import type { VmcsDescription } from '../vmx/description.js';
import { GUEST, GUEST_SELECTOR } from './guest-area.js';

// prettier-ignore
/** Addresses beside GUEST's. */
export const AREA = {
  PML4:      0x13_0000n,
  PDPT:      0x13_1000n,
  PD:        0x13_2000n,
  PT:        0x13_3000n,
  HANDLERS:  0x13_4000n,
  /** A page with the descriptor table at its beginning and the first interrupt stack at its end. */
  GDT:       0x13_5000n,
  IST1:      0x13_6000n,
  READ_ONLY: 0x13_6000n,
} as const;

/** The first page and the one behind the last that are mapped. */
const MAPPED = [0x10_0000n, 0x13_8000n] as const;
const PAGE = 0x1000n;
const NO_EXECUTE = 1n << 63n;
/** Bytes between the handlers of two vectors. */
export const HANDLER_SIZE = 16n;
/** A software interrupt whose handler is an IRET. */
export const RETURNING = 0x30;
/** Interrupt stacks of gates; all are the first one in memory, and differ in their shadow stacks. */
const IST_OF: ReadonlyMap<number, number> = new Map([
  [2, 1],
  [8, 1],
  [13, 1],
  [RETURNING_THROUGH_IST, 1],
  ...[1, 2, 3, 4, 5, 6, 7].map((ist) => [IST_GATE(ist), ist] as const),
]);
/** Software interrupts whose gates are not right, or not interrupt gates. */
export const ODD_GATE = {
  NOT_PRESENT: 0x40,
  TRAP: 0x41,
  NULL_CODE: 0x42,
  DATA_CODE: 0x43,
  NON_CANONICAL: 0x44,
  ABSENT_CODE: 0x45,
  TASK_GATE: 0x46,
  BEYOND: 0x47,
  CONFORMING: 0x48,
} as const;

/** Descriptors behind those of GUEST_SELECTOR, most of them not right for what loads them. */
export const AREA_SELECTOR = {
  LDT: 0x58,
  ABSENT_CODE: 0x68,
  CONFORMING: 0x70,
  USER_DATA: 0x78,
  READ_ONLY: 0x80,
  EXECUTE_ONLY: 0x88,
  ABSENT_TASK: 0x90,
  ABSENT_LDT: 0xa0,
  LDT_OF_NON_CANONICAL_BASE: 0xb0,
  CALL_GATE: 0xc0,
} as const;
const GDT_BYTES = 0xd0;
const GATES = 256;
const ENDBR64 = [0xf3, 0x0f, 0x1e, 0xfa] as const;
const HLT = 0xf4;
const IRETQ = [0x48, 0xcf] as const;
const TSS_IST1_OFFSET = 0x24n;

/** A place to write values and bytes to: either machine's memory. */
export interface Writer {
  values(address: bigint, ...values: readonly bigint[]): unknown;
  memory(address: bigint, bytes: Uint8Array): unknown;
}

/** Writes tables, gates and handlers. */
export function layOutArea(to: Writer): void {
  to.values(AREA.PML4, AREA.PDPT | 3n);
  to.values(AREA.PDPT, AREA.PD | 3n);
  to.values(AREA.PD, AREA.PT | 3n);
  for (let page = MAPPED[0]; page < MAPPED[1]; page += PAGE)
    to.values(AREA.PT + (page >> 9n), entryOf(page));
  for (let vector = 0; vector < GATES; vector++) {
    const handler = AREA.HANDLERS + BigInt(vector) * HANDLER_SIZE;
    to.values(GUEST.IDT + BigInt(vector) * HANDLER_SIZE, ...gateOf(vector, handler));
    const returns = vector === RETURNING || vector === RETURNING_THROUGH_IST;
    const start = vector === WITHOUT_ENDBRANCH ? [] : ENDBR64;
    to.memory(handler, Uint8Array.from([...start, ...(returns ? IRETQ : [HLT])]));
  }
  const stacks = new Uint8Array(BigUint64Array.from({ length: 7 }, () => AREA.IST1).buffer);
  to.memory(GUEST.TSS + TSS_IST1_OFFSET, stacks);
}

/** Writes what sequences may change: the descriptor table, whose task descriptors LTR marks, and the task itself. */
export function layOutDescriptors(to: Writer): void {
  const system = (base: bigint, type: bigint): bigint =>
    0x67n | ((base & 0xff_ffffn) << 16n) | (type << 40n) | ((base >> 24n) << 56n);
  const code = 0x00af_9b00_0000_ffffn;
  to.values(
    AREA.GDT,
    ...[0n, 0n, code, 0x00cf_9300_0000_ffffn, 0n, 0x00cf_1300_0000_ffffn],
    ...[system(GUEST.TASK, 0x89n), 0n, system(GUEST.TSS, 0x8bn), 0n, 0x00cf_9b00_0000_ffffn],
    ...[system(GUEST.TASK, 0x82n), 0n, code & ~(0x80n << 40n), 0x00af_9f00_0000_ffffn],
    ...[0x00cf_f300_0000_ffffn, 0x00cf_9100_0000_ffffn, 0x00af_9900_0000_ffffn],
    ...[system(GUEST.TASK, 0x09n), 0n, system(GUEST.TASK, 0x02n), 0n],
    ...[system(GUEST.TASK, 0x82n), 0x8000n],
    ...[0x8c00_0010_0000n | (RETURN_TO & 0xffffn) | ((RETURN_TO >> 16n) << 48n), 0n],
  );
}

/** Code segments and types of the odd gates; the others have the guest's code segment and are interrupt gates. */
const ODD_SELECTOR: Readonly<Record<number, number>> = {
  [ODD_GATE.NULL_CODE]: 0,
  [ODD_GATE.DATA_CODE]: GUEST_SELECTOR.DATA,
  [ODD_GATE.ABSENT_CODE]: AREA_SELECTOR.ABSENT_CODE,
  [ODD_GATE.BEYOND]: 0x100,
  [ODD_GATE.CONFORMING]: AREA_SELECTOR.CONFORMING,
};
const PRESENT_INTERRUPT_GATE = 0x8en;
const ODD_TYPE: Readonly<Record<number, bigint>> = {
  [ODD_GATE.NOT_PRESENT]: 0x0en,
  [ODD_GATE.TRAP]: 0x8fn,
  [ODD_GATE.TASK_GATE]: 0x85n,
};

function gateOf(vector: number, handler: bigint): [low: bigint, high: bigint] {
  const selector = BigInt(ODD_SELECTOR[vector] ?? GUEST_SELECTOR.CODE);
  const type = ODD_TYPE[vector] ?? PRESENT_INTERRUPT_GATE;
  const ist = BigInt(IST_OF.get(vector) ?? 0);
  const low = (handler & 0xffffn) | (selector << 16n) | (ist << 32n) | (type << 40n);
  const high = vector === ODD_GATE.NON_CANONICAL ? 0x8000n : handler >> 32n;
  return [low | ((handler >> 16n) << 48n), high];
}

/** Where handlers begin. */
export function handlerAddresses(): bigint[] {
  return Array.from(
    { length: GATES },
    (_, vector) => AREA.HANDLERS + BigInt(vector) * HANDLER_SIZE,
  );
}

function entryOf(page: bigint): bigint {
  const isCode = page === GUEST.CODE || page === AREA.HANDLERS;
  const isReadOnly =
    isCode || page === AREA.READ_ONLY || page === SHADOW.PAGE || page === SHADOW.CLEAN;
  const used = page === SHADOW.CLEAN ? 0x20n : 0x60n; // accessed; and dirty
  return page | (isReadOnly ? 1n : 3n) | (isCode ? 0n : NO_EXECUTE) | used;
}

/** What a sequence's VMCS has besides guestVmcs(). */
export const AREA_VMCS: VmcsDescription = {
  GUEST_CR3: AREA.PML4,
  GUEST_IDTR_LIMIT: 0xfffn,
  GUEST_GDTR_BASE: AREA.GDT,
  GUEST_GDTR_LIMIT: BigInt(GDT_BYTES - 1),
  EXCEPTION_BITMAP: 0n,
  VMX_PREEMPTION_TIMER_VALUE: 1_000_000n,
};
