/**
 * Where the second machine is known to differ from the SDM in its local APIC.
 *
 * Source: each row names the SDM's rule; Bochs 2.7, which checks little of what is reserved.
 * Invariant: a row explains one kind of answer to one kind of step, and what a later step of the same case shows of it.
 */
import { toIndex } from '../../abi/uint.js';
import { LVT, X2APIC } from '../../abi/x2apic.js';
import { MSR } from '../../abi/msrs.js';
import type { ApicStep } from './local-apic-cases.js';

/** One known difference. */
export interface KnownApicDifference {
  readonly id: string;
  readonly sdm: string;
  readonly bochs: string;
  readonly explains: (step: ApicStep, model: string, second: string, title: string) => boolean;
  /** What follows from it: an answer to a step behind `met`, the one that showed it. */
  readonly follows?: (step: ApicStep, model: string, second: string, met: ApicStep) => boolean;
}

/** A known difference that a case has met, and at which step. */
export interface MetApicDifference {
  readonly known: KnownApicDifference;
  readonly step: ApicStep;
}

const isLvt = (index: number): boolean => index >= X2APIC.LVT_TIMER && index <= X2APIC.LVT_ERROR;
const READ_ONLY_BITS = BigInt(LVT.PENDING);

/** The bits that software may set, by register; said here once more, so that an error of the model's table shows. */
// prettier-ignore
const DEFINED: ReadonlyMap<number, bigint> = new Map([
  [X2APIC.SELF_IPI,     0xffn],
  [X2APIC.TIMER_DIVIDE, 0xbn],
  [X2APIC.ICR,          0xffff_ffff_000c_cfffn],
  [X2APIC.LVT_TIMER,    0x7_10ffn],
  [X2APIC.LVT_THERMAL,  0x1_17ffn],
  [X2APIC.LVT_PMI,      0x1_17ffn],
  [X2APIC.LVT_LINT0,    0x1_f7ffn],
  [X2APIC.LVT_LINT1,    0x1_f7ffn],
  [X2APIC.LVT_ERROR,    0x1_10ffn],
]);

/** By the case in which a deadline goes: what it was. */
const DISARMED: Readonly<Partial<Record<string, string>>> = {
  'a deadline that has expired reads as 0': '0x1',
  'a change of mode disarms the deadline': '0x7fffffff00000000',
};
const SHORTHAND = 0xc_0000n;
const RAISES_ERROR = 'an error raises the interrupt of its LVT entry';

/** A timer mode of 3, which no defined bit shows. */
const FOURTH_MODE = 0x6_0000n;

function isReserved(index: number, value: bigint): boolean {
  const defined = DEFINED.get(index);
  if (defined === undefined) return false;
  const isFourth = index === X2APIC.LVT_TIMER && (value & FOURTH_MODE) === FOURTH_MODE;
  return (value & ~defined) !== 0n || isFourth;
}

/** Registers of ISR, TMR and IRR. */
const isInSets = ({ index }: { index: number }): boolean =>
  index >= X2APIC.ISR0 && index < X2APIC.ESR;
const isEmpty = (value: string): boolean => value === '0x0';
/** Explains what sets say in a case: an interrupt that is there on one machine alone. */
const sets =
  (wanted: string, where: 'model' | 'second'): KnownApicDifference['explains'] =>
  (step, model, second, title) =>
    step.kind === 'read' &&
    isInSets(step) &&
    title === wanted &&
    isEmpty(where === 'model' ? second : model) &&
    !isEmpty(where === 'model' ? model : second);

/** The word of the IRR that holds a vector, with nothing but it. */
const requests = (vector: number, step: { index: number }, word: string): boolean =>
  step.index === X2APIC.IRR0 + (vector >>> 5) && BigInt(word) === BigInt(2 ** (vector & 31));
const VECTOR_MASK = 0xffn;

/** A command with a reserved bit that was obeyed, or a value with one that was kept. */
const obeyed: KnownApicDifference['follows'] = (step, model, second, met) => {
  if (step.kind !== 'read' || met.kind !== 'write') return false;
  if (step.index === met.index) return BigInt(second) === met.value;
  return isEmpty(model) && requests(toIndex(met.value & VECTOR_MASK), step, second);
};

export const KNOWN_APIC_DIFFERENCES: readonly KnownApicDifference[] = [
  {
    id: 'apic-reserved-bits',
    sdm: 'WRMSR of a reserved bit of ICR, self-IPI, the divisor or an LVT register is #GP(0)',
    bochs: 'the bit is ignored',
    explains: (step, model, second) =>
      step.kind === 'write' &&
      isReserved(step.index, step.value) &&
      model === '#GP' &&
      second === 'written',
    follows: obeyed,
  },
  {
    id: 'apic-lvt-read-only-bits',
    sdm: 'the delivery status of an LVT register is read-only',
    bochs: 'it is kept as it was written',
    explains: (step, model, second) =>
      step.kind === 'read' &&
      isLvt(step.index) &&
      second.startsWith('0x') &&
      model.startsWith('0x') &&
      BigInt(second) === (BigInt(model) | READ_ONLY_BITS),
  },
  {
    id: 'apic-logical-id',
    sdm: 'in x2APIC mode the LDR is made of the APIC id',
    bochs: 'it is 0, and no logical destination is found',
    explains: (step, model, second, title) =>
      (step.kind === 'read' && step.index === X2APIC.LDR && model === '0x1' && isEmpty(second)) ||
      sets('ICR to its own logical id', 'model')(step, model, second, title),
  },
  {
    id: 'apic-lowest-priority',
    sdm: 'a lowest-priority message goes to one of the processors that its destination names',
    bochs: 'physical destinations find none',
    explains: sets('ICR of lowest priority to itself alone', 'model'),
  },
  {
    id: 'apic-class-in-service',
    sdm: 'an interrupt in service holds back its whole class',
    bochs: 'it holds back vectors that are not higher',
    explains: (step, model, second, title) =>
      title === 'an interrupt in service holds back its class' &&
      step.kind === 'take' &&
      model === '0 taken' &&
      second === '1 taken',
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
      sets(RAISES_ERROR, 'model')(step, model, second, title) ||
      (title === RAISES_ERROR &&
        step.kind === 'take' &&
        model === '1 taken' &&
        second === '0 taken'),
  },
  {
    id: 'apic-icr-shorthand',
    sdm: 'ICR reads as it was written',
    bochs: 'a command with a shorthand is not kept',
    explains: (step, model, second) =>
      step.kind === 'read' &&
      step.index === X2APIC.ICR &&
      isEmpty(second) &&
      (BigInt(model) & SHORTHAND) !== 0n,
  },
  {
    id: 'apic-software-disabled',
    sdm: 'a software-disabled local APIC takes no fixed interrupt',
    bochs: 'it does',
    explains: sets('a software-disabled APIC takes no fixed interrupt', 'second'),
  },
  {
    id: 'apic-trigger-mode-of-icr',
    sdm: 'the trigger mode of ICR is ignored but for INIT level de-assert',
    bochs: 'a fixed interrupt is level-triggered by it, and is in TMR until its EOI',
    explains: sets('ICR to its own id: the trigger mode is ignored', 'second'),
  },
  {
    id: 'apic-deadline-not-disarmed',
    sdm: 'IA32_TSC_DEADLINE is 0 once it has expired, and once the timer is in another mode',
    bochs: 'it keeps its value',
    explains: (step, model, second, title) =>
      step.kind === 'read' &&
      step.index === MSR.IA32_TSC_DEADLINE &&
      isEmpty(model) &&
      second === DISARMED[title],
  },
  {
    id: 'apic-xapic-broadcast',
    sdm: 'in x2APIC mode the destination of a broadcast is 0xffffffff, and 0xff is an id like any other',
    bochs: 'both are broadcasts',
    explains: (step, model, second, title) =>
      title === 'ICR to id 0xff, which is no broadcast in x2APIC mode' &&
      step.kind === 'read' &&
      step.index === X2APIC.IRR0 + 4 &&
      model === '0x0' &&
      second === '0x4000000',
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
    follows: (step, _model, second, met) =>
      step.kind === 'read' &&
      met.kind === 'write' &&
      step.index === met.index &&
      BigInt(second) === (met.value & 0xffff_ffffn),
  },
];

/** The known difference that covers an answer by itself or as what follows from one of `met`, or null. */
export function knownApicDifference(
  step: ApicStep,
  model: string,
  second: string,
  title: string,
  met: readonly MetApicDifference[],
): KnownApicDifference | null {
  return (
    KNOWN_APIC_DIFFERENCES.find(({ explains }) => explains(step, model, second, title)) ??
    met.find(({ known, step: at }) => known.follows?.(step, model, second, at) === true)?.known ??
    null
  );
}
