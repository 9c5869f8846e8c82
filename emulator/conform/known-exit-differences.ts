/**
 * Where the second machine is known to differ from the SDM in what a VM exit saves: not ours to match.
 *
 * Source: each row names the SDM's rule; all were seen on Bochs 2.7.
 * Invariant: a row explains one pattern of bits in one field and nothing else.
 */
import { EXIT_REASON } from '../../abi/exit-reasons.js';
import { INTR_INFO } from '../../abi/interruption.js';
import { RFLAGS } from '../cpu/registers.js';

const EXTERNAL_INTERRUPT = BigInt(EXIT_REASON.EXIT_REASON_EXTERNAL_INTERRUPT);
const TIMER = BigInt(EXIT_REASON.EXIT_REASON_PREEMPTION_TIMER);
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
];

/** The known difference that covers a value, or null. */
export function knownExitDifference(
  what: string,
  model: bigint,
  second: bigint,
): KnownExitDifference | null {
  return KNOWN_EXIT_DIFFERENCES.find(({ explains }) => explains(what, model, second)) ?? null;
}
