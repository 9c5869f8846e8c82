/**
 * Guests that meet events: exceptions, interrupts, windows, the preemption timer, and injections whose delivery fails.
 *
 * Source: SDM, "Information for VM Exits Due to Vectored Events", "Information for VM Exits That Occur During Event
 * Delivery", "Other Causes of VM Exits", "Saving RIP, RSP, RFLAGS, and SSP" (the RF flag).
 * Invariant: a case that leaves an interrupt or NMI blocking behind is isolated.
 */
import { EXIT_REASON } from '../../abi/exit-reasons.js';
import { VECTOR, encodeInterruption, type InterruptionType } from '../../abi/interruption.js';
import { ENTRY_CONTROL, EXIT_CONTROL, PRIMARY, SECONDARY } from '../../abi/vmx-controls.js';
import { X2APIC } from '../../abi/x2apic.js';
import * as exits from '../guest/exits.js';
import type { VmExit } from '../vmx/vm-exit.js';
import type { VmcsDescription } from '../vmx/description.js';
import { primary, secondary, type ExitCase } from './exit-case.js';
import { FLAT_32_BIT, GUEST, GUEST_SELECTOR } from './guest-area.js';

const R = EXIT_REASON;
const EVERY_EXCEPTION: VmcsDescription = { EXCEPTION_BITMAP: 0xffff_ffffn };
const FAULT: VmcsDescription = { GUEST_RFLAGS: 0x1_0002n };
/** A page of zeroes as MSR bitmap: the guest's WRMSR reaches the local APIC. */
const PASS_MSRS: VmcsDescription = {
  MSR_BITMAP: 0x1_7000n,
  VMX_PREEMPTION_TIMER_VALUE: 100_000n,
};
export const SOFTWARE_ENABLE = [[X2APIC.SIVR, 0x1ffn]] as const;

function exception(
  type: InterruptionType,
  vector: number,
  errorCode: number | null,
  rest: Partial<VmExit> = {},
): VmExit {
  return {
    basic: R.EXIT_REASON_EXCEPTION_NMI,
    qualification: 0n,
    interruptionInfo: encodeInterruption(type, vector, { deliverCode: errorCode !== null }),
    ...(errorCode === null ? {} : { interruptionErrorCode: errorCode }),
    ...rest,
  };
}
const fault = (vector: number, errorCode: number | null, qualification = 0n): VmExit =>
  exception('HARD_EXCEPTION', vector, errorCode, { qualification });

const EXCEPTIONS: readonly ExitCase[] = [
  { title: '#UD of UD2', code: '0f 0b', exit: fault(VECTOR.UD, null), after: FAULT },
  { title: '#DE of DIV', code: 'f7 f1', exit: fault(VECTOR.DE, null), after: FAULT },
  {
    title: '#GP of a non-canonical load',
    code: '8a 07',
    exit: fault(VECTOR.GP, 0),
    registers: { RDI: GUEST.NON_CANONICAL },
    after: FAULT,
  },
  {
    title: '#SS of a non-canonical load from the stack',
    code: '8a 04 24',
    exit: fault(VECTOR.SS, 0),
    fields: { GUEST_RSP: GUEST.NON_CANONICAL },
    after: FAULT,
  },
  ...(
    [
      ['load', '8a 07', 0],
      ['store', '88 07', 2],
      ['fetch', 'ff e7', 0x10],
    ] as const
  ).map(([kind, code, errorCode]): ExitCase => ({
    title: `#PF of a ${kind}`,
    code,
    exit: fault(VECTOR.PF, errorCode, GUEST.UNMAPPED + 8n),
    registers: { RDI: GUEST.UNMAPPED + 8n },
    after: kind === 'fetch' ? { ...FAULT, GUEST_RIP: GUEST.UNMAPPED + 8n } : FAULT,
  })),
  {
    title: '#NP of MOV FS',
    code: '8e e0',
    exit: fault(VECTOR.NP, GUEST_SELECTOR.NOT_PRESENT),
    registers: { RAX: BigInt(GUEST_SELECTOR.NOT_PRESENT) },
    after: FAULT,
  },
  {
    title: '#NM with CR0.TS',
    code: 'd9 ee',
    exit: fault(VECTOR.NM, null),
    fields: { GUEST_CR0: 0x8005_003bn },
    after: FAULT,
  },
  {
    title: '#BP of INT3',
    code: 'cc',
    exit: exception('SOFT_EXCEPTION', VECTOR.BP, null, { instructionLength: 1 }),
  },
  {
    title: '#OF of INTO in a 32-bit guest',
    code: 'ce',
    exit: exception('SOFT_EXCEPTION', VECTOR.OF, null, { instructionLength: 1 }),
    fields: { ...FLAT_32_BIT, GUEST_RFLAGS: 0x802n },
    controls: secondary(SECONDARY.UNRESTRICTED_GUEST),
    without: { VM_ENTRY_CONTROLS: ENTRY_CONTROL.IA32E_MODE },
  },
  {
    title: '#DB of INT1',
    code: 'f1',
    exit: exception('PRIV_SW_EXCEPTION', VECTOR.DB, null, { instructionLength: 1 }),
  },
  {
    title: '#DB of a single step is a trap',
    code: '90 90',
    exit: fault(VECTOR.DB, null, 0x4000n),
    fields: { GUEST_RFLAGS: 0x102n },
    rip: 1,
  },
].map((one): ExitCase => ({
  ...one,
  fields: { ...EVERY_EXCEPTION, ...('fields' in one ? one.fields : {}) },
}));

const NO_IDT: VmcsDescription = { GUEST_IDTR_LIMIT: 0n };

const DELIVERY: readonly ExitCase[] = [
  {
    title: 'a fault that cannot be delivered ends in a triple fault',
    code: '0f 0b',
    exit: { basic: R.EXIT_REASON_TRIPLE_FAULT, qualification: 0n },
    fields: NO_IDT,
  },
  {
    title: 'a double fault that exits is not one during delivery',
    code: '0f 0b',
    exit: fault(VECTOR.DF, 0),
    fields: { ...NO_IDT, EXCEPTION_BITMAP: 1n << 8n },
  },
  {
    title: '#GP while #UD is delivered',
    code: '0f 0b',
    exit: {
      ...fault(VECTOR.GP, VECTOR.UD * 8 + 3),
      idtVectoringInfo: encodeInterruption('HARD_EXCEPTION', VECTOR.UD),
    },
    fields: { ...NO_IDT, EXCEPTION_BITMAP: 1n << 13n },
    after: FAULT,
  },
  {
    title: '#GP while INT 0x30 is delivered',
    code: 'cd 30',
    exit: {
      ...fault(VECTOR.GP, 0x30 * 8 + 2),
      idtVectoringInfo: encodeInterruption('SOFT_INTR', 0x30),
      instructionLength: 2,
    },
    fields: { ...NO_IDT, EXCEPTION_BITMAP: 1n << 13n },
    after: FAULT,
  },
];

/** An event injected while the gate that it needs has no EPT translation. */
export function injected(
  type: InterruptionType,
  vector: number,
  errorCode: number | null = null,
  length?: number,
): ExitCase {
  const info = encodeInterruption(type, vector, { deliverCode: errorCode !== null });
  const gate = GUEST.HOLE + BigInt(vector * 16);
  return {
    title: `EPT violation while injected ${type} ${vector} is delivered`,
    code: '90',
    exit: {
      ...exits.eptViolation(gate, gate, 'read'),
      idtVectoringInfo: info,
      ...(errorCode === null ? {} : { idtVectoringErrorCode: errorCode }),
      ...(length === undefined ? {} : { instructionLength: length }),
    },
    fields: {
      GUEST_IDTR_BASE: GUEST.HOLE,
      GUEST_IDTR_LIMIT: 0xfffn,
      GUEST_RFLAGS: 0x202n,
      VM_ENTRY_INTR_INFO_FIELD: BigInt(info),
      VM_ENTRY_EXCEPTION_ERROR_CODE: BigInt(errorCode ?? 0),
      VM_ENTRY_INSTRUCTION_LEN: BigInt(length ?? 0),
    },
    after: { VM_ENTRY_INTR_INFO_FIELD: BigInt(info & 0x7fff_ffff) },
  };
}

const INJECTIONS: readonly ExitCase[] = [
  injected('EXT_INTR', 0x30),
  injected('HARD_EXCEPTION', VECTOR.UD),
  injected('HARD_EXCEPTION', VECTOR.GP, 0x1234),
  injected('SOFT_INTR', 0x80, null, 2),
  injected('SOFT_EXCEPTION', VECTOR.BP, null, 1),
  { ...injected('NMI_INTR', VECTOR.NMI), isolated: true },
];

export const event = (name: keyof typeof EXIT_REASON): VmExit => ({
  basic: R[name],
  qualification: 0n,
});
export const INTERRUPTS_ON: VmcsDescription = { GUEST_RFLAGS: 0x202n };

const WINDOWS: readonly ExitCase[] = [
  {
    title: 'the preemption timer expires while the guest spins',
    code: 'eb fe',
    pending: { timerExpired: true },
    exit: event('EXIT_REASON_PREEMPTION_TIMER'),
    fields: { VMX_PREEMPTION_TIMER_VALUE: 100n },
    after: { VMX_PREEMPTION_TIMER_VALUE: 0n },
  },
  {
    title: 'a preemption timer of 0 expires before the first instruction',
    code: '90 90 90',
    pending: { timerExpired: true },
    exit: event('EXIT_REASON_PREEMPTION_TIMER'),
    fields: { VMX_PREEMPTION_TIMER_VALUE: 0n },
    after: { VMX_PREEMPTION_TIMER_VALUE: 0n },
  },
  {
    title: 'the preemption timer expires in the HLT state',
    code: '90',
    pending: { timerExpired: true },
    exit: event('EXIT_REASON_PREEMPTION_TIMER'),
    fields: { VMX_PREEMPTION_TIMER_VALUE: 100n, GUEST_ACTIVITY_STATE: 1n },
    after: { VMX_PREEMPTION_TIMER_VALUE: 0n },
  },
  {
    title: 'a preemption timer of 0 exits before a single step, and leaves none pending',
    code: '90 90',
    pending: { timerExpired: true },
    exit: event('EXIT_REASON_PREEMPTION_TIMER'),
    fields: { VMX_PREEMPTION_TIMER_VALUE: 0n, GUEST_RFLAGS: 0x102n },
    after: { VMX_PREEMPTION_TIMER_VALUE: 0n },
  },
  {
    title: 'a pending single step comes before a preemption timer of 0',
    code: '90 90',
    exit: fault(VECTOR.DB, null, 0x4000n),
    fields: {
      ...EVERY_EXCEPTION,
      VMX_PREEMPTION_TIMER_VALUE: 0n,
      GUEST_RFLAGS: 0x102n,
      GUEST_PENDING_DBG_EXCEPTIONS: 0x4000n,
    },
    after: { GUEST_PENDING_DBG_EXCEPTIONS: 0n },
  },
  {
    title: 'the monitor trap flag exits behind one instruction',
    code: 'eb fe',
    pending: { monitorTrap: true },
    exit: event('EXIT_REASON_MONITOR_TRAP_FLAG'),
    controls: primary(PRIMARY.MONITOR_TRAP_FLAG),
    fields: { VMX_PREEMPTION_TIMER_VALUE: 100n },
  },
  {
    title: 'an injected monitor trap flag exits before the first instruction',
    code: 'eb fe',
    pending: {},
    exit: event('EXIT_REASON_MONITOR_TRAP_FLAG'),
    fields: {
      VM_ENTRY_INTR_INFO_FIELD: BigInt(encodeInterruption('OTHER_EVENT', 0)),
      VMX_PREEMPTION_TIMER_VALUE: 100n,
    },
  },
  {
    title: 'an open interrupt window exits at once',
    code: '90 90',
    pending: {},
    exit: event('EXIT_REASON_INTERRUPT_WINDOW'),
    fields: INTERRUPTS_ON,
    controls: primary(PRIMARY.INTR_WINDOW_EXITING),
  },
  {
    title: 'STI opens the interrupt window one instruction later',
    code: 'fb 90 90',
    pending: {},
    exit: event('EXIT_REASON_INTERRUPT_WINDOW'),
    controls: primary(PRIMARY.INTR_WINDOW_EXITING),
    rip: 2,
    after: INTERRUPTS_ON,
  },
  {
    title: 'blocking by MOV SS keeps the interrupt window shut for one instruction',
    code: '90 90',
    pending: {},
    exit: event('EXIT_REASON_INTERRUPT_WINDOW'),
    fields: { ...INTERRUPTS_ON, GUEST_INTERRUPTIBILITY_INFO: 2n },
    controls: primary(PRIMARY.INTR_WINDOW_EXITING),
    rip: 1,
    after: { GUEST_INTERRUPTIBILITY_INFO: 0n },
  },
  {
    title: 'POPF opens the interrupt window at once',
    code: '68 02 02 00 00 9d 90',
    pending: {},
    exit: event('EXIT_REASON_INTERRUPT_WINDOW'),
    controls: primary(PRIMARY.INTR_WINDOW_EXITING),
    rip: 6,
    after: INTERRUPTS_ON,
  },
  {
    title: 'an open NMI window exits at once',
    code: '90 90',
    pending: {},
    exit: event('EXIT_REASON_NMI_WINDOW'),
    controls: primary(PRIMARY.NMI_WINDOW_EXITING),
  },
  {
    title: 'the NMI window opens after IRET',
    // PUSH SS, RSP, RFLAGS, CS and a RIP behind IRETQ, which is where it goes on.
    code: '6a 18 54 68 02 00 00 00 6a 10 68 11 00 11 00 48 cf 90 90',
    pending: {},
    exit: event('EXIT_REASON_NMI_WINDOW'),
    fields: { GUEST_INTERRUPTIBILITY_INFO: 8n },
    controls: primary(PRIMARY.NMI_WINDOW_EXITING),
    rip: 17,
    after: { GUEST_INTERRUPTIBILITY_INFO: 0n, GUEST_RSP: GUEST.STACK - 8n },
  },
];

/** A SIPI with vector 0x42 to the processor with APIC id 0. */
const SIPI_TO_FIRST = 0x4642n;
const WAIT_FOR_SIPI = 3n;

const SENT: readonly ExitCase[] = [
  ...(
    [
      ['at VM entry', {}],
      ['at VM entry into the HLT state', { GUEST_ACTIVITY_STATE: 1n }],
    ] as const
  ).map(([when, fields]): ExitCase => ({
    title: `an interrupt that is pending ${when} exits at once`,
    code: '90 90',
    pending: { externalInterrupt: 0x43 },
    exit: {
      ...event('EXIT_REASON_EXTERNAL_INTERRUPT'),
      interruptionInfo: encodeInterruption('EXT_INTR', 0x43),
    },
    msrs: [...SOFTWARE_ENABLE, [X2APIC.SELF_IPI, 0x43n]],
    isolated: true,
    fields: { ...INTERRUPTS_ON, ...fields },
  })),
  {
    title: 'an INIT to a guest',
    code: '0f 30 eb fe',
    pending: { init: true },
    exit: event('EXIT_REASON_INIT_SIGNAL'),
    registers: { RCX: BigInt(X2APIC.ICR), RAX: 0x4500n, RDX: 0n },
    fields: PASS_MSRS,
    isolated: true,
    rip: 2,
  },
  {
    title: 'a SIPI to a guest that waits for it',
    code: '90',
    pending: { sipi: 0x42 },
    exit: { ...event('EXIT_REASON_SIPI_SIGNAL'), qualification: 0x42n },
    fields: { GUEST_ACTIVITY_STATE: WAIT_FOR_SIPI, VMX_PREEMPTION_TIMER_VALUE: 0xffff_ffffn },
    sent: SIPI_TO_FIRST,
    isolated: true,
  },
  {
    title: 'an external interrupt exits with interrupts off, too',
    code: '0f 30 eb fe',
    pending: { externalInterrupt: 0x40 },
    exit: {
      ...event('EXIT_REASON_EXTERNAL_INTERRUPT'),
      interruptionInfo: encodeInterruption('EXT_INTR', 0x40),
    },
    registers: { RCX: BigInt(X2APIC.SELF_IPI), RAX: 0x40n, RDX: 0n },
    msrs: SOFTWARE_ENABLE,
    isolated: true,
    fields: PASS_MSRS,
    rip: 2,
  },
  {
    title: 'an external interrupt is acknowledged by the exit',
    code: '0f 30 eb fe',
    pending: { externalInterrupt: 0x40 },
    exit: {
      ...event('EXIT_REASON_EXTERNAL_INTERRUPT'),
      interruptionInfo: encodeInterruption('EXT_INTR', 0x40),
    },
    registers: { RCX: BigInt(X2APIC.SELF_IPI), RAX: 0x40n, RDX: 0n },
    msrs: SOFTWARE_ENABLE,
    isolated: true,
    fields: { ...PASS_MSRS, ...INTERRUPTS_ON },
    rip: 2,
  },
  {
    title: 'an NMI exits and leaves NMIs blocked',
    code: '0f 30 eb fe',
    pending: { nmi: true },
    exit: exception('NMI_INTR', VECTOR.NMI, null),
    registers: { RCX: BigInt(X2APIC.ICR), RAX: 0x4400n, RDX: 0n },
    msrs: SOFTWARE_ENABLE,
    fields: { ...PASS_MSRS, ...INTERRUPTS_ON },
    rip: 2,
    blocksNmi: true,
    isolated: true,
  },
  {
    title: 'an external interrupt that the exit does not acknowledge stays pending',
    code: '0f 30 eb fe',
    pending: { externalInterrupt: 0x41 },
    exit: event('EXIT_REASON_EXTERNAL_INTERRUPT'),
    registers: { RCX: BigInt(X2APIC.SELF_IPI), RAX: 0x41n, RDX: 0n },
    msrs: SOFTWARE_ENABLE,
    isolated: true,
    fields: { ...PASS_MSRS, ...INTERRUPTS_ON },
    without: { VM_EXIT_CONTROLS: EXIT_CONTROL.ACK_INTR_ON_EXIT },
    rip: 2,
  },
];

/** Every case of an event. */
export const EVENT_CASES: readonly ExitCase[] = [
  ...EXCEPTIONS,
  ...DELIVERY,
  ...INJECTIONS,
  ...WINDOWS,
  ...SENT,
];
