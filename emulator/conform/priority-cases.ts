/**
 * Guests for which more than one event is there at once, and events that something holds back.
 *
 * Source: SDM, "Priority Among Concurrent Events", "Interrupt-Window Exiting and Virtual-Interrupt Delivery", "NMI-Window
 * Exiting", "VMX-Preemption Timer", "Activity State", "Vectored-Event Injection".
 * Invariant: a case that leaves an interrupt pending or NMIs blocked is isolated; no payload is behind these.
 */
import type { EXIT_REASON } from '../../abi/exit-reasons.js';
import { ACTIVITY, INTERRUPTIBILITY, VECTOR, encodeInterruption } from '../../abi/interruption.js';
import { PRIMARY } from '../../abi/vmx-controls.js';
import { X2APIC } from '../../abi/x2apic.js';
import type { VmcsDescription } from '../vmx/description.js';
import { INTERRUPTS_ON, SOFTWARE_ENABLE, event, injected } from './event-cases.js';
import { primary, type ExitCase } from './exit-case.js';

const TIMER = 'EXIT_REASON_PREEMPTION_TIMER' satisfies keyof typeof EXIT_REASON;
const NMI_WINDOW = 'EXIT_REASON_NMI_WINDOW' satisfies keyof typeof EXIT_REASON;
const INTERRUPT_WINDOW = 'EXIT_REASON_INTERRUPT_WINDOW' satisfies keyof typeof EXIT_REASON;
const SPIN = 'eb fe';
const HLT_STATE: VmcsDescription = { GUEST_ACTIVITY_STATE: BigInt(ACTIVITY.HLT) };
const NO_TIME: VmcsDescription = { VMX_PREEMPTION_TIMER_VALUE: 0n };
const SHORT_TIME: VmcsDescription = { VMX_PREEMPTION_TIMER_VALUE: 100n };
const blocked = (bits: number): VmcsDescription => ({ GUEST_INTERRUPTIBILITY_INFO: BigInt(bits) });
const NMI_WINDOWS = primary(PRIMARY.NMI_WINDOW_EXITING);
const INTERRUPT_WINDOWS = primary(PRIMARY.INTR_WINDOW_EXITING);
const BOTH_WINDOWS = primary(PRIMARY.NMI_WINDOW_EXITING, PRIMARY.INTR_WINDOW_EXITING);

const VECTOR_PENDING = 0x43;
/** An interrupt that the host has sent itself, with interrupts off. */
const INTERRUPTED = {
  msrs: [...SOFTWARE_ENABLE, [X2APIC.SELF_IPI, BigInt(VECTOR_PENDING)]],
  isolated: true,
  pending: { externalInterrupt: VECTOR_PENDING },
  before: { externalInterrupt: VECTOR_PENDING },
} as const satisfies Partial<ExitCase>;
const TAKEN = {
  ...event('EXIT_REASON_EXTERNAL_INTERRUPT'),
  interruptionInfo: encodeInterruption('EXT_INTR', VECTOR_PENDING),
};

/** The timer has run out, which leaves its field 0. */
const EXPIRES = {
  exit: event(TIMER),
  pending: { timerExpired: true },
  after: { VMX_PREEMPTION_TIMER_VALUE: 0n },
} as const satisfies Partial<ExitCase>;

export const PRIORITY_CASES: readonly ExitCase[] = [
  {
    ...EXPIRES,
    title: 'a preemption timer of 0 comes before both windows',
    code: '90 90',
    // The second machine saves a count of the case before.
    after: {},
    fields: { ...INTERRUPTS_ON, ...NO_TIME },
    controls: BOTH_WINDOWS,
  },
  {
    title: 'an injected monitor trap flag comes before a preemption timer of 0',
    code: '90 90',
    exit: event('EXIT_REASON_MONITOR_TRAP_FLAG'),
    pending: { timerExpired: true },
    fields: {
      VM_ENTRY_INTR_INFO_FIELD: BigInt(encodeInterruption('OTHER_EVENT', 0)),
      ...NO_TIME,
    },
  },
  {
    title: 'an open NMI window comes before an open interrupt window',
    code: '90 90',
    exit: event(NMI_WINDOW),
    pending: {},
    fields: INTERRUPTS_ON,
    controls: BOTH_WINDOWS,
  },
  {
    ...INTERRUPTED,
    title: 'an open interrupt window comes before an interrupt',
    code: '90 90',
    exit: event(INTERRUPT_WINDOW),
    fields: INTERRUPTS_ON,
    controls: INTERRUPT_WINDOWS,
  },
  {
    ...INTERRUPTED,
    ...EXPIRES,
    title: 'a preemption timer of 0 comes before an interrupt',
    pending: { ...INTERRUPTED.pending, ...EXPIRES.pending },
    code: '90 90',
    fields: { ...INTERRUPTS_ON, ...NO_TIME },
  },
  {
    ...INTERRUPTED,
    title: 'blocking by MOV SS holds an interrupt back for one instruction',
    code: '90 90',
    exit: TAKEN,
    fields: { ...INTERRUPTS_ON, ...blocked(INTERRUPTIBILITY.MOV_SS) },
    rip: 1,
    after: blocked(0),
  },
  {
    ...INTERRUPTED,
    title: 'blocking by STI holds an interrupt back for one instruction',
    code: '90 90',
    exit: TAKEN,
    fields: { ...INTERRUPTS_ON, ...blocked(INTERRUPTIBILITY.STI) },
    rip: 1,
    after: blocked(0),
  },
  {
    title: 'blocking by MOV SS keeps the NMI window shut for one instruction',
    code: '90 90',
    exit: event(NMI_WINDOW),
    pending: {},
    fields: blocked(INTERRUPTIBILITY.MOV_SS),
    controls: NMI_WINDOWS,
    rip: 1,
    after: blocked(0),
  },
  {
    ...EXPIRES,
    title: 'blocking by NMI keeps the NMI window shut',
    code: SPIN,
    isolated: true,
    fields: { ...SHORT_TIME, ...blocked(INTERRUPTIBILITY.NMI) },
    controls: NMI_WINDOWS,
  },
  {
    ...EXPIRES,
    title: 'RFLAGS.IF = 0 keeps the interrupt window shut',
    code: SPIN,
    fields: SHORT_TIME,
    controls: INTERRUPT_WINDOWS,
  },
  {
    title: 'an interrupt window is open in the HLT state',
    code: '90 90',
    exit: event(INTERRUPT_WINDOW),
    pending: {},
    fields: { ...INTERRUPTS_ON, ...HLT_STATE },
    controls: INTERRUPT_WINDOWS,
  },
  {
    title: 'an NMI window is open in the HLT state',
    code: '90 90',
    exit: event(NMI_WINDOW),
    pending: {},
    fields: HLT_STATE,
    controls: NMI_WINDOWS,
  },
  ...(['EXT_INTR', 'HARD_EXCEPTION'] as const).map((type): ExitCase => {
    const one = injected(type, type === 'EXT_INTR' ? 0x30 : VECTOR.DB);
    return {
      ...one,
      title: `${one.title}, out of the HLT state`,
      fields: { ...one.fields, ...HLT_STATE },
    };
  }),
];
