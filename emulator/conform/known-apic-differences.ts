/**
 * Where the second machine is known to differ from the SDM in its local APIC.
 *
 * Source: each row names the SDM's rule; Bochs 2.7, which checks little of what is reserved.
 * Invariant: a row explains one kind of answer to one kind of step.
 */
import { LVT, X2APIC } from '../../abi/x2apic.js';
import { MSR } from '../../abi/msrs.js';
import type { ApicStep } from './local-apic-cases.js';

/** One known difference. */
export interface KnownApicDifference {
  readonly id: string;
  readonly sdm: string;
  readonly bochs: string;
  readonly explains: (step: ApicStep, model: string, second: string, title: string) => boolean;
}

const isLvt = (index: number): boolean => index >= X2APIC.LVT_TIMER && index <= X2APIC.LVT_ERROR;
const UNCHECKED: ReadonlySet<number> = new Set([X2APIC.SELF_IPI, X2APIC.TIMER_DIVIDE, X2APIC.ICR]);
const READ_ONLY_BITS = BigInt(LVT.PENDING);
/** Registers of ISR, TMR and IRR. */
const isInSets = ({ index }: { index: number }): boolean =>
  index >= X2APIC.ISR0 && index < X2APIC.ESR;
/** Explains what sets say in cases of these titles. */
const sets =
  (...titles: readonly string[]): KnownApicDifference['explains'] =>
  (step, _model, _second, title) =>
    step.kind === 'read' && isInSets(step) && titles.includes(title);

export const KNOWN_APIC_DIFFERENCES: readonly KnownApicDifference[] = [
  {
    id: 'apic-reserved-bits',
    sdm: 'WRMSR of a reserved bit of ICR, self-IPI, the divisor or an LVT register is #GP(0)',
    bochs: 'the bit is ignored',
    explains: (step, model, second) =>
      step.kind === 'write' &&
      (UNCHECKED.has(step.index) || isLvt(step.index)) &&
      model === '#GP' &&
      second === 'written',
  },
  {
    id: 'apic-lvt-read-only-bits',
    sdm: 'the delivery status of an LVT register is read-only',
    bochs: 'it is kept as it was written',
    explains: (step, model, second) =>
      step.kind === 'read' &&
      isLvt(step.index) &&
      BigInt(second) === (BigInt(model) | READ_ONLY_BITS),
  },
  {
    id: 'apic-logical-id',
    sdm: 'in x2APIC mode the LDR is made of the APIC id',
    bochs: 'it is 0, and no logical destination is found',
    explains: (step, model, second, title) =>
      (step.kind === 'read' && step.index === X2APIC.LDR && second === '0x0') ||
      sets('ICR to its own logical id')(step, model, second, title),
  },
  {
    id: 'apic-lowest-priority',
    sdm: 'a lowest-priority message goes to one of the processors that its destination names',
    bochs: 'physical destinations find none',
    explains: sets('ICR of lowest priority to itself alone'),
  },
  {
    id: 'apic-class-in-service',
    sdm: 'an interrupt in service holds back its whole class',
    bochs: 'it holds back vectors that are not higher',
    explains: (step, _model, _second, title) =>
      title === 'an interrupt in service holds back its class' && step.kind === 'take',
  },
  {
    id: 'apic-illegal-vector',
    sdm: 'a vector below 16 that is sent sets bit 5 of ESR, and raises the error interrupt',
    bochs: 'it sets bit 6, and raises none',
    explains: (step, model, second, title) =>
      (step.kind === 'read' &&
        step.index === X2APIC.ESR &&
        model === '0x20' &&
        second === '0x40') ||
      sets('an error raises the interrupt of its LVT entry')(step, model, second, title),
  },
  {
    id: 'apic-icr-shorthand',
    sdm: 'ICR reads as it was written',
    bochs: 'a command with a shorthand is not kept',
    explains: (step, _model, second) =>
      step.kind === 'read' && step.index === X2APIC.ICR && second === '0x0',
  },
  {
    id: 'apic-software-disabled',
    sdm: 'a software-disabled local APIC takes no fixed interrupt',
    bochs: 'it does',
    explains: sets('a software-disabled APIC takes no fixed interrupt'),
  },
  {
    id: 'apic-deadline-not-disarmed',
    sdm: 'IA32_TSC_DEADLINE is 0 once it has expired, and once the timer is in another mode',
    bochs: 'it keeps its value',
    explains: (step, model) =>
      step.kind === 'read' && step.index === MSR.IA32_TSC_DEADLINE && model === '0x0',
  },
  {
    id: 'msr-upper-half',
    sdm: 'bits 63:32 of IA32_FMASK and IA32_TSC_AUX are reserved: WRMSR of one is #GP(0)',
    bochs: 'it is ignored',
    explains: (step, model, second) =>
      step.kind === 'write' &&
      (step.index === MSR.IA32_FMASK || step.index === MSR.IA32_TSC_AUX) &&
      step.value >> 32n !== 0n &&
      model === '#GP' &&
      second === 'written',
  },
];

/** The known difference that covers an answer, or null. */
export function knownApicDifference(
  step: ApicStep,
  model: string,
  second: string,
  title: string,
): KnownApicDifference | null {
  return (
    KNOWN_APIC_DIFFERENCES.find(({ explains }) => explains(step, model, second, title)) ?? null
  );
}
