/**
 * Guests with interrupts: what the payload injects, when it asks for windows, its timer, HLT, and what arrives from outside.
 *
 * Source: CONTRACT ("What the payload handles": HLT, TSC_DEADLINE, external interrupts, exit reason 0; "Stop and
 * serialize"); SDM, "VMX-Preemption Timer", "Interrupt-Window Exiting", "Non-Maskable Interrupts (NMIs)".
 * Invariant: interrupts and NMIs come from the local APIC of the machine itself, sent by the guest with a WRMSR that does
 * not exit.
 */
import { CARETAKER_REQUEST } from '../../../abi/ccb.js';
import { EXIT_REASON } from '../../../abi/exit-reasons.js';
import { VECTOR, encodeInterruption } from '../../../abi/interruption.js';
import { X2APIC } from '../../../abi/x2apic.js';
import * as exits from '../../guest/exits.js';
import type { VmcsDescription } from '../../vmx/description.js';
import type { VmExit } from '../../vmx/vm-exit.js';
import { bytesOf } from '../exits.js';
import { HANDLER_OFFSET, sequence, type GuestStep, type PayloadCase } from './cases.js';

/** A guest that takes interrupts. */
export const INTERRUPTS_ON: VmcsDescription = { GUEST_RFLAGS: 0x202n };
/** Gates for all 256 vectors. */
export const WHOLE_IDT: VmcsDescription = { GUEST_IDTR_LIMIT: 0xfffn };
/** A page of zeroes as MSR bitmap: the guest's WRMSR reaches the local APIC. */
export const OWN_APIC: VmcsDescription = { MSR_BITMAP: 0x1_7000n };
const WRMSR = '0f 30';
const TSC_DEADLINE = 0x6e0;

const event = (basic: number): VmExit => ({ basic, qualification: 0n });
const TIMER = event(EXIT_REASON.EXIT_REASON_PREEMPTION_TIMER);
const WINDOW = event(EXIT_REASON.EXIT_REASON_INTERRUPT_WINDOW);

/** The guest's handler ends its interrupt. */
export function endOfInterrupt(): Required<Pick<PayloadCase, 'handler' | 'handlerSteps'>> {
  const { code, steps } = sequence('', [{ code: WRMSR, exit: exits.wrmsr(X2APIC.EOI, 0n) }]);
  return {
    handler: code,
    handlerSteps: steps.map((step) => ({ ...step, rip: step.rip + HANDLER_OFFSET })),
  };
}

const write = (index: number, value: bigint) => ({ code: WRMSR, exit: exits.wrmsr(index, value) });

/** A case of a sequence, then of more code. */
function then(
  first: PayloadCase,
  code: string,
  steps: readonly (Omit<GuestStep, 'rip'> & { readonly behind: number })[],
): Pick<PayloadCase, 'code' | 'steps'> {
  const start = bytesOf(first.code).length;
  return {
    code: first.code + code,
    steps: [
      ...first.steps,
      ...steps.map(({ behind, ...rest }) => ({ ...rest, rip: start + behind })),
    ],
  };
}

const INTERRUPTS: readonly PayloadCase[] = [
  {
    ...then(sequence('', [write(X2APIC.SELF_IPI, 0x51n)]), 'fb 90 90', [
      { exit: WINDOW, behind: 2, after: INTERRUPTS_ON },
    ]),
    ...endOfInterrupt(),
    title: 'a self-IPI waits for STI, then for the window',
  },
  {
    ...sequence('', [write(X2APIC.SELF_IPI, 0x52n)]),
    ...endOfInterrupt(),
    title: 'a self-IPI with interrupts on is injected at once',
    fields: INTERRUPTS_ON,
  },
];

/** RDTSC, plus a while, to IA32_TSC_DEADLINE; what is written is the guest's own time. */
const ARM =
  '0f 31 48 c1 e2 20 48 09 d0 48 05 20 4e 00 00 48 89 c2 48 c1 ea 20 31 c9 b9 e0 06 00 00';
/** XOR of a register with itself, interrupts on. */
const FLAGS_AFTER_XOR: VmcsDescription = { GUEST_RFLAGS: 0x246n };
const ARMED: GuestStep = {
  exit: { ...exits.wrmsr(TSC_DEADLINE, 0n), registers: {} } as VmExit,
  rip: bytesOf(ARM).length,
  registers: { RCX: BigInt(TSC_DEADLINE) },
  taken: ['RAX', 'RDX'],
  after: FLAGS_AFTER_XOR,
};
const ARMED_BYTES = bytesOf(ARM).length + 2;

/** Deadlines that expire in the guest. */
export const TIMERS: readonly PayloadCase[] = [
  {
    title: 'a TSC deadline expires while the guest spins',
    code: `${ARM} ${WRMSR} eb fe`,
    steps: [ARMED, { exit: TIMER, rip: ARMED_BYTES }],
    fields: INTERRUPTS_ON,
    ...endOfInterrupt(),
  },
  {
    title: 'a TSC deadline ends a HLT',
    code: `${ARM} ${WRMSR} f4`,
    steps: [
      ARMED,
      { exit: exits.hlt(), rip: ARMED_BYTES },
      { exit: TIMER, rip: ARMED_BYTES + 1, after: { GUEST_ACTIVITY_STATE: 1n } },
    ],
    fields: INTERRUPTS_ON,
    ...endOfInterrupt(),
  },
];

/** An interrupt that the guest sends to its own processor, past the payload. */
export function externalInterrupt(vector: number, rip: number): GuestStep {
  return {
    exit: {
      ...event(EXIT_REASON.EXIT_REASON_EXTERNAL_INTERRUPT),
      interruptionInfo: encodeInterruption('EXT_INTR', vector),
    },
    rip,
    acknowledged: vector,
  };
}

/** An NMI that it sends to its own processor. */
export function nonMaskable(rip: number): GuestStep {
  return {
    exit: {
      ...event(EXIT_REASON.EXIT_REASON_EXCEPTION_NMI),
      interruptionInfo: encodeInterruption('NMI_INTR', VECTOR.NMI),
    },
    rip,
  };
}

const OUTSIDE: readonly PayloadCase[] = [
  {
    title: 'an external interrupt is KVM’s while it is there',
    code: WRMSR,
    steps: [externalInterrupt(0x40, 2)],
    registers: { RCX: BigInt(X2APIC.SELF_IPI), RAX: 0x40n, RDX: 0n },
    fields: { ...OWN_APIC, ...INTERRUPTS_ON },
    afterwards: 'eoi',
  },
  {
    title: 'an NMI is KVM’s while it is there',
    code: WRMSR,
    steps: [nonMaskable(2)],
    registers: { RCX: BigInt(X2APIC.ICR), RAX: 0x4400n, RDX: 0n },
    fields: { ...OWN_APIC, ...INTERRUPTS_ON },
    afterwards: 'iret',
  },
  {
    title: 'another vCPU has posted an interrupt before the run entry',
    code: '90',
    steps: [],
    posted: 0x61,
    way: 'run',
    fields: INTERRUPTS_ON,
    ...endOfInterrupt(),
  },
];

/** What KVM asks for: the vCPU comes back serialized, and its VMCS is cleared. */
const STOPS: readonly PayloadCase[] = [
  {
    title: 'a stop is seen after the exit is answered',
    code: '0f a2',
    steps: [{ exit: exits.cpuid(0), rip: 0 }],
    registers: { RAX: 0n, RCX: 0n },
    request: CARETAKER_REQUEST.STOP,
    way: 'resume',
  },
  {
    title: 'a stop that is there before the run entry',
    code: '0f a2',
    steps: [
      { exit: TIMER, rip: 0, whenTimerIsZero: true },
      { exit: exits.cpuid(0), rip: 0 },
    ],
    registers: { RAX: 0n, RCX: 0n },
    request: CARETAKER_REQUEST.STOP,
    isFresh: true,
    way: 'run',
  },
  {
    title: 'an exit that KVM has to answer is blocked when a stop is wanted',
    code: '',
    steps: [],
    request: CARETAKER_REQUEST.STOP,
    isFresh: true,
    way: 'launch',
  },
  {
    title: 'after a stop the VMCS is launched again',
    code: '0f a2',
    steps: [{ exit: exits.cpuid(7), rip: 0 }],
    registers: { RAX: 7n, RCX: 0n },
    isFresh: true,
    way: 'run',
  },
];

/** Every case with an event. */
export const EVENTS: readonly PayloadCase[] = [...INTERRUPTS, ...TIMERS, ...OUTSIDE, ...STOPS].map(
  (one) => ({ ...one, fields: { ...WHOLE_IDT, ...one.fields } }),
);
