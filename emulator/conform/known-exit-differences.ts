/**
 * Where the second machine is known to differ from the SDM in what a VM exit saves: not ours to match.
 *
 * Source: each row names the SDM's rule; all were seen on Bochs 2.7.
 * Invariant: a row explains one pattern of bits in one field and nothing else.
 */
import { EXIT_REASON } from '../../abi/exit-reasons.js';
import { INTR_INFO } from '../../abi/interruption.js';
import { RFLAGS } from '../cpu/registers.js';
import { GUEST } from './guest-area.js';

const EXTERNAL_INTERRUPT = BigInt(EXIT_REASON.EXIT_REASON_EXTERNAL_INTERRUPT);
const TIMER = BigInt(EXIT_REASON.EXIT_REASON_PREEMPTION_TIMER);
const TRAP_FLAG = BigInt(EXIT_REASON.EXIT_REASON_MONITOR_TRAP_FLAG);
const EPT_VIOLATION = BigInt(EXIT_REASON.EXIT_REASON_EPT_VIOLATION);
const HLT = BigInt(EXIT_REASON.EXIT_REASON_HLT);
const HLT_STATE = 1n;
const WAIT_FOR_SIPI = 3n;
const BLOCKING_BY_SMI = 4n;
const TYPE = BigInt(INTR_INFO.TYPE_MASK);

/** One known difference. */
export interface KnownExitDifference {
  readonly id: string;
  readonly sdm: string;
  readonly bochs: string;
  readonly explains: (what: string, model: bigint, second: bigint) => boolean;
}

export const KNOWN_EXIT_DIFFERENCES: readonly KnownExitDifference[] = [
  {
    id: 'resume-flag-of-faults',
    sdm: 'a fault, an EPT violation and an APIC access that exit save RF = 1, as the flags pushed on the stack would have it',
    bochs: 'saves RF = 0 unless the fault occurs while another is delivered',
    explains: (what, model, second) =>
      what === 'GUEST_RFLAGS' && model === (second | RFLAGS.RF) && model !== second,
  },
  {
    id: 'external-interrupt-with-interrupts-off',
    sdm: 'with external-interrupt exiting, RFLAGS.IF does not block external interrupts',
    bochs: 'keeps them pending until IF changes, here until the preemption timer expires',
    explains: (what, model, second) =>
      (what === 'VM_EXIT_REASON' && model === EXTERNAL_INTERRUPT && second === TIMER) ||
      (what === 'VM_EXIT_INTR_INFO' && (model & TYPE) === 0n && second === 0n),
  },
  {
    id: 'monitor-trap-flag',
    sdm: 'with the monitor trap flag a VM exit is pending behind each instruction',
    bochs: 'offers the control and never exits for it, here until the preemption timer expires',
    explains: (what, model, second) =>
      what === 'VM_EXIT_REASON' && model === TRAP_FLAG && second === TIMER,
  },
  {
    id: 'activity-state-of-a-pending-interrupt',
    sdm: 'an exit saves the activity state that VM entry loaded when nothing has woken the guest',
    bochs:
      'an interrupt that is pending at VM entry into the HLT state makes it active before it exits',
    explains: (what, model, second) =>
      what === 'GUEST_ACTIVITY_STATE' && model === HLT_STATE && second === 0n,
  },
  {
    id: 'accessed-flag-without-ept',
    sdm: 'the update of an accessed flag in the guest’s tables is a write, which EPT must allow',
    bochs: 'writes it whatever EPT says, and the guest goes on, here to a HLT',
    explains: (what, model, second) =>
      (what === 'VM_EXIT_REASON' && model === EPT_VIOLATION && second === HLT) ||
      (what === 'EXIT_QUALIFICATION' && (model & ~0x28n) === 0x82n && second === 0n) ||
      (what === 'GUEST_LINEAR_ADDRESS' && model === GUEST.CODE) ||
      (what === 'GUEST_PHYSICAL_ADDRESS' &&
        (model === GUEST.READ_ONLY || model === GUEST.READ_EXECUTE)),
  },
  {
    id: 'state-after-a-sipi',
    sdm: 'an exit saves the activity state that it found, and blocking by SMI only in SMM',
    bochs: 'saves the active state, and blocking by SMI',
    explains: (what, model, second) =>
      (what === 'GUEST_ACTIVITY_STATE' && model === WAIT_FOR_SIPI && second === 0n) ||
      (what === 'GUEST_INTERRUPTIBILITY_INFO' && model === 0n && second === BLOCKING_BY_SMI),
  },
];

/** The known difference that covers a value, or null. */
export function knownExitDifference(
  what: string,
  model: bigint,
  second: bigint,
): KnownExitDifference | null {
  return KNOWN_EXIT_DIFFERENCES.find(({ explains }) => explains(what, model, second)) ?? null;
}
