/**
 * Where instruction sequences run on both machines: their own tables, gates, handlers and stacks.
 *
 * Source: SDM, "4-Level Paging", "64-Bit Mode Task Management", "IDT Gate Descriptors in 64-bit mode".
 * Invariant: everything is an identity; only CODE and HANDLERS can be executed, as the payload's tables have it. A handler
 * halts, which ends a sequence; that of RETURNING returns.
 */
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
  IST1:      0x13_6000n,
  READ_ONLY: 0x13_6000n,
} as const;

/** The first page and the one behind the last that are mapped. */
const MAPPED = [0x10_0000n, 0x13_8000n] as const;
const PAGE = 0x1000n;
const NO_EXECUTE = 1n << 63n;
/** Bytes of a handler. */
const HANDLER_SIZE = 16n;
/** A software interrupt whose handler is an IRET. */
export const RETURNING = 0x30;
/** Gates that switch to the first interrupt stack. */
const IST_VECTORS: ReadonlySet<number> = new Set([2, 13]);
const GATES = 256;
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
    const ist = IST_VECTORS.has(vector) ? 1n : 0n;
    const low = (handler & 0xffffn) | (BigInt(GUEST_SELECTOR.CODE) << 16n);
    const gate = low | (ist << 32n) | (0x8en << 40n) | ((handler >> 16n) << 48n);
    to.values(GUEST.IDT + BigInt(vector) * HANDLER_SIZE, gate, handler >> 32n);
    const code = vector === RETURNING ? IRETQ : [HLT];
    to.memory(handler, Uint8Array.from(code));
  }
  to.memory(GUEST.TSS + TSS_IST1_OFFSET, new Uint8Array(BigUint64Array.of(AREA.IST1).buffer));
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
  const isReadOnly = isCode || page === AREA.READ_ONLY;
  return page | (isReadOnly ? 1n : 3n) | (isCode ? 0n : NO_EXECUTE) | 0x60n; // accessed and dirty
}

/** What a sequence's VMCS has besides guestVmcs(). */
export const AREA_VMCS: VmcsDescription = {
  GUEST_CR3: AREA.PML4,
  GUEST_IDTR_LIMIT: 0xfffn,
  EXCEPTION_BITMAP: 0n,
  VMX_PREEMPTION_TIMER_VALUE: 1_000_000n,
};
