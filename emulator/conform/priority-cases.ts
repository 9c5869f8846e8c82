/**
 * Guests for which more than one event is there at once, and events that something holds back.
 *
 * Source: SDM, "Priority Among Concurrent Events", "Interrupt-Window Exiting and Virtual-Interrupt Delivery", "NMI-Window
 * Exiting", "VMX-Preemption Timer", "Activity State", "Vectored-Event Injection".
 * Invariant: a case that leaves an interrupt pending or NMIs blocked is isolated; no payload is behind these.
 */
import type { EXIT_REASON } from '../../abi/exit-reasons.js';
import { ACTIVITY, INTERRUPTIBILITY, VECTOR, encodeInterruption } from '../../abi/interruption.js';
import { PIN, PRIMARY } from '../../abi/vmx-controls.js';
import { X2APIC } from '../../abi/x2apic.js';
import * as exits from '../guest/exits.js';
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

/** The NMI comes at VM entry, behind the shadow, or never where the second machine keeps it blocked. */
const NMI_PENDING = {
  msrs: SOFTWARE_ENABLE,
  nmiPending: true,
  isolated: true,
  pending: { nmi: true },
} as const satisfies Partial<ExitCase>;
const NMI_TAKEN = {
  ...event('EXIT_REASON_EXCEPTION_NMI'),
  interruptionInfo: encodeInterruption('NMI_INTR', VECTOR.NMI),
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
    ...NMI_PENDING,
    title: 'an NMI that is pending at VM entry, which lifts blocking by NMI, exits at once',
    without: { PIN_BASED_VM_EXEC_CONTROL: PIN.VIRTUAL_NMIS },
    code: SPIN,
    exit: NMI_TAKEN,
    fields: SHORT_TIME,
  },
  {
    ...NMI_PENDING,
    title: 'blocking by MOV SS holds an NMI back for one instruction',
    code: SPIN,
    exit: NMI_TAKEN,
    before: { nmi: true },
    fields: { ...SHORT_TIME, ...blocked(INTERRUPTIBILITY.MOV_SS) },
    after: blocked(0),
  },
  {
    ...NMI_PENDING,
    title:
      'with virtual NMIs, blocking by NMI is the guest’s and holds no NMI of the processor back',
    code: SPIN,
    exit: NMI_TAKEN,
    fields: { ...SHORT_TIME, ...blocked(INTERRUPTIBILITY.NMI) },
  },
  {
    ...NMI_PENDING,
    ...EXPIRES,
    title: 'a preemption timer of 0 comes before an NMI',
    pending: { ...NMI_PENDING.pending, ...EXPIRES.pending },
    code: '90 90',
    // The second machine saves a count of the guest before.
    after: {},
    fields: NO_TIME,
  },
  {
    title: 'blocking by NMI that VM entry loads goes on in root operation',
    code: 'f4',
    exit: exits.hlt(),
    fields: blocked(INTERRUPTIBILITY.NMI),
    without: { PIN_BASED_VM_EXEC_CONTROL: PIN.VIRTUAL_NMIS },
    blocksNmi: true,
    isolated: true,
  },
  {
    title: 'with virtual NMIs, blocking by NMI that VM entry loads is the guest’s alone',
    code: 'f4',
    exit: exits.hlt(),
    fields: blocked(INTERRUPTIBILITY.NMI),
    blocksNmi: true,
    isolated: true,
  },
  ...[0, 40].map((count): ExitCase => ({
    title: `a preemption timer that has counted ${count} instructions is saved`,
    code: `${'90 '.repeat(count)}f4`,
    exit: exits.hlt(),
    rip: count,
    // The HLT, which exits, is counted too.
    ticks: count + 1,
    fields: { VMX_PREEMPTION_TIMER_VALUE: 1000n },
  })),
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
