/**
 * Accesses to the local APIC in x2APIC mode: systematic ones titled with the SDM's rules, and random ones.
 *
 * Source: SDM, "Local APIC", "Extended XAPIC (x2APIC)", "Interrupt Priority", "Error Handling", "TSC-Deadline Mode".
 * Invariant: a case begins with an APIC that is enabled, has nothing requested or in service, TPR 0 and every LVT masked.
 * Not here: counts that are read while they run, and messages to other processors.
 */
import { MSR } from '../../abi/msrs.js';
import { ICR, ICR_DELIVERY, ICR_SHORTHAND, LVT, X2APIC } from '../../abi/x2apic.js';
import type { Random } from '../clock/random.js';

/** One access, or one instruction with interrupts on, or a time in which every timer expires. */
export type ApicStep =
  | { readonly kind: 'write'; readonly index: number; readonly value: bigint }
  | { readonly kind: 'read'; readonly index: number }
  | { readonly kind: 'take' }
  | { readonly kind: 'wait' };

/** Steps in their order; what each answers is compared. */
export interface ApicCase {
  readonly title: string;
  readonly steps: readonly ApicStep[];
}

const write = (index: number, value: bigint | number): ApicStep => ({
  kind: 'write',
  index,
  value: BigInt(value),
});
const read = (index: number): ApicStep => ({ kind: 'read', index });
const TAKE: ApicStep = { kind: 'take' };
const WAIT: ApicStep = { kind: 'wait' };
const EOI = write(X2APIC.EOI, 0);
const one = (title: string, ...steps: readonly ApicStep[]): ApicCase => ({ title, steps });

/** Every word of a set of 256 vectors. */
const wordsOf = (first: number): ApicStep[] =>
  Array.from({ length: 8 }, (_, word) => read(first + word));
const SETS: readonly ApicStep[] = [X2APIC.ISR0, X2APIC.TMR0, X2APIC.IRR0].flatMap(wordsOf);
const PRIORITIES: readonly ApicStep[] = [read(X2APIC.TPR), read(X2APIC.PPR)];
const self = (vector: number): ApicStep => write(X2APIC.SELF_IPI, vector);

const ACCESS: readonly ApicCase[] = [
  ...[
    X2APIC.APICID,
    X2APIC.LDR,
    X2APIC.PPR,
    X2APIC.ISR0,
    X2APIC.TMR0,
    X2APIC.IRR0,
    X2APIC.TIMER_CURRENT,
  ].map((index) =>
    one(`register ${index.toString(16)} is read-only`, write(index, 0), read(index)),
  ),
  one('EOI and self-IPI are write-only', read(X2APIC.EOI), read(X2APIC.SELF_IPI)),
  ...[0x800, 0x801, 0x804, 0x807, 0x809, 0x80c, 0x80e, 0x829, 0x831, 0x83a, 0x83d].map((index) =>
    one(`there is no register ${index.toString(16)}`, read(index), write(index, 0)),
  ),
  one('EOI takes 0 alone', write(X2APIC.EOI, 1)),
  one('ESR takes 0 alone', write(X2APIC.ESR, 1), read(X2APIC.ESR)),
  one(
    'TPR has 8 bits',
    write(X2APIC.TPR, 0xff),
    ...PRIORITIES,
    write(X2APIC.TPR, 0x100),
    ...PRIORITIES,
  ),
  one('the high half of a 32-bit register is reserved', write(X2APIC.TPR, 1n << 32n)),
  one('self-IPI has 8 bits', write(X2APIC.SELF_IPI, 0x140), ...SETS),
  one('SIVR has reserved bits', write(X2APIC.SIVR, 0x800), read(X2APIC.SIVR)),
  one(
    'the divisor has reserved bits',
    write(X2APIC.TIMER_DIVIDE, 4),
    write(X2APIC.TIMER_DIVIDE, 0xb),
    read(X2APIC.TIMER_DIVIDE),
  ),
];

const PRIORITY: readonly ApicCase[] = [
  one(
    'a self-IPI is requested, taken and ended',
    self(0x41),
    ...SETS,
    TAKE,
    ...SETS,
    ...PRIORITIES,
    EOI,
    ...SETS,
    ...PRIORITIES,
  ),
  one(
    'the TPR holds back its class and those below',
    write(X2APIC.TPR, 0x50),
    self(0x5f),
    TAKE,
    self(0x60),
    TAKE,
    ...SETS,
    ...PRIORITIES,
  ),
  one(
    'an interrupt in service holds back its class',
    self(0x71),
    TAKE,
    self(0x7f),
    TAKE,
    self(0x80),
    TAKE,
    ...SETS,
    ...PRIORITIES,
  ),
  one(
    'PPR is the TPR with its low half where that is the higher',
    write(X2APIC.TPR, 0x8a),
    self(0x95),
    TAKE,
    ...PRIORITIES,
    write(X2APIC.TPR, 0x9b),
    ...PRIORITIES,
  ),
  one(
    'EOI ends the highest in service',
    self(0x41),
    TAKE,
    self(0x61),
    TAKE,
    EOI,
    ...SETS,
    ...PRIORITIES,
  ),
  one('EOI with nothing in service', EOI, ...SETS),
  one(
    'the same vector twice is requested once',
    self(0x44),
    self(0x44),
    TAKE,
    TAKE,
    EOI,
    TAKE,
    ...SETS,
  ),
  one(
    'a vector in service can be requested once more',
    self(0x44),
    TAKE,
    self(0x44),
    ...SETS,
    EOI,
    TAKE,
    ...SETS,
  ),
];

const ERRORS: readonly ApicCase[] = [
  ...[0, 9, 15].map((vector) =>
    one(
      `vector ${vector} is illegal to send`,
      self(vector),
      read(X2APIC.ESR),
      write(X2APIC.ESR, 0),
      read(X2APIC.ESR),
      write(X2APIC.ESR, 0),
      read(X2APIC.ESR),
      ...SETS,
    ),
  ),
  one(
    'an error raises the interrupt of its LVT entry',
    write(X2APIC.LVT_ERROR, 0xe1),
    self(3),
    ...SETS,
    TAKE,
    ...SETS,
  ),
];

const icr = (delivery: number, shorthand: number, vector: number, rest = 0): number =>
  vector |
  (delivery << ICR.DELIVERY_SHIFT) |
  (shorthand << ICR.SHORTHAND_SHIFT) |
  ICR.LEVEL_ASSERT |
  rest;
const { FIXED, LOWEST_PRIORITY } = ICR_DELIVERY;

const COMMANDS: readonly ApicCase[] = [
  one(
    'ICR to itself by shorthand',
    write(X2APIC.ICR, icr(FIXED, ICR_SHORTHAND.SELF, 0x91)),
    read(X2APIC.ICR),
    ...SETS,
  ),
  one(
    'ICR to all and itself',
    write(X2APIC.ICR, icr(FIXED, ICR_SHORTHAND.ALL_INCLUDING_SELF, 0x92)),
    ...SETS,
  ),
  one(
    'ICR to all but itself reaches nobody',
    write(X2APIC.ICR, icr(FIXED, ICR_SHORTHAND.ALL_EXCLUDING_SELF, 0x93)),
    ...SETS,
  ),
  one('ICR to its own id', write(X2APIC.ICR, icr(FIXED, 0, 0x94)), ...SETS),
  one(
    'ICR to everybody by destination',
    write(X2APIC.ICR, 0xffff_ffff_0000_0000n | BigInt(icr(FIXED, 0, 0x95))),
    ...SETS,
  ),
  one(
    'ICR to id 0xff, which is no broadcast in x2APIC mode',
    write(X2APIC.ICR, 0xff_0000_0000n | BigInt(icr(FIXED, 0, 0x9a))),
    ...SETS,
  ),
  one(
    'ICR to its own logical id',
    write(X2APIC.ICR, (1n << 32n) | BigInt(icr(FIXED, 0, 0x96, ICR.LOGICAL))),
    ...SETS,
  ),
  one(
    'ICR to another logical id',
    write(X2APIC.ICR, (2n << 32n) | BigInt(icr(FIXED, 0, 0x97, ICR.LOGICAL))),
    ...SETS,
  ),
  one(
    'ICR of lowest priority to itself alone',
    write(X2APIC.ICR, icr(LOWEST_PRIORITY, 0, 0x98)),
    ...SETS,
  ),
  one(
    'ICR to its own id: the trigger mode is ignored',
    write(X2APIC.ICR, icr(FIXED, 0, 0x9b, ICR.TRIGGER_LEVEL)),
    ...SETS,
    TAKE,
    ...SETS,
    EOI,
    ...SETS,
  ),
  one(
    'the same vector with the trigger mode and without',
    write(X2APIC.ICR, icr(FIXED, 0, 0x9c, ICR.TRIGGER_LEVEL)),
    TAKE,
    EOI,
    write(X2APIC.ICR, icr(FIXED, 0, 0x9c)),
    ...SETS,
  ),
  one(
    'ICR of an illegal vector',
    write(X2APIC.ICR, icr(FIXED, 0, 4)),
    write(X2APIC.ESR, 0),
    read(X2APIC.ESR),
    ...SETS,
  ),
  ...[12, 13, 16, 17, 20, 31].map((bit) =>
    one(
      `bit ${bit} of ICR is reserved`,
      write(X2APIC.ICR, BigInt(icr(FIXED, ICR_SHORTHAND.SELF, 0x99)) | (1n << BigInt(bit))),
      ...SETS,
    ),
  ),
];

const LOCAL: readonly ApicCase[] = [
  ...[
    X2APIC.LVT_TIMER,
    X2APIC.LVT_THERMAL,
    X2APIC.LVT_PMI,
    X2APIC.LVT_LINT0,
    X2APIC.LVT_LINT1,
    X2APIC.LVT_ERROR,
  ].flatMap((index) => [
    one(
      `LVT ${index.toString(16)} keeps its vector and mask`,
      write(index, LVT.MASKED | 0x55),
      read(index),
      write(index, 0x66),
      read(index),
    ),
    one(
      `LVT ${index.toString(16)} has reserved bits`,
      write(index, LVT.MASKED | (1 << 19)),
      read(index),
    ),
    one(
      `LVT ${index.toString(16)} keeps its read-only bits`,
      write(index, LVT.MASKED | LVT.PENDING | 0x31),
      read(index),
    ),
  ]),
  one(
    'software disable masks every LVT entry',
    write(X2APIC.LVT_ERROR, 0x33),
    write(X2APIC.SIVR, 0xff),
    read(X2APIC.LVT_ERROR),
    write(X2APIC.LVT_ERROR, 0x34),
    read(X2APIC.LVT_ERROR),
    write(X2APIC.SIVR, 0x1ff),
    read(X2APIC.LVT_ERROR),
  ),
  one('software disable keeps what is requested', self(0xa1), write(X2APIC.SIVR, 0xff), ...SETS),
  one(
    'a software-disabled APIC takes no fixed interrupt',
    write(X2APIC.SIVR, 0xff),
    self(0xa2),
    ...SETS,
  ),
];

const DEADLINE = LVT.TIMER_TSC_DEADLINE | 0xe2;
const NEVER = 0x7fff_ffff_0000_0000n;
const TIMERS: readonly ApicCase[] = [
  one(
    'a periodic timer expires again and again',
    write(X2APIC.TIMER_DIVIDE, 0xb),
    write(X2APIC.LVT_TIMER, LVT.TIMER_PERIODIC | 0xe0),
    write(X2APIC.TIMER_INITIAL, 50),
    WAIT,
    TAKE,
    EOI,
    WAIT,
    write(X2APIC.LVT_TIMER, LVT.MASKED | 0xe0),
    write(X2APIC.TIMER_INITIAL, 0),
    ...SETS,
  ),
  one(
    'a one-shot timer expires once',
    write(X2APIC.TIMER_DIVIDE, 0xb),
    write(X2APIC.LVT_TIMER, 0xe0),
    write(X2APIC.TIMER_INITIAL, 50),
    WAIT,
    ...SETS,
    read(X2APIC.TIMER_INITIAL),
    read(X2APIC.TIMER_CURRENT),
    TAKE,
    EOI,
    WAIT,
    ...SETS,
  ),
  one(
    'a masked timer expires without an interrupt',
    write(X2APIC.LVT_TIMER, LVT.MASKED | 0xe0),
    write(X2APIC.TIMER_INITIAL, 50),
    WAIT,
    ...SETS,
    read(X2APIC.TIMER_CURRENT),
  ),
  one(
    'a count of 0 stops the timer',
    write(X2APIC.LVT_TIMER, 0xe0),
    write(X2APIC.TIMER_INITIAL, 0xffff_ffff),
    write(X2APIC.TIMER_INITIAL, 0),
    WAIT,
    ...SETS,
    read(X2APIC.TIMER_CURRENT),
  ),
  one(
    'a deadline that is past expires at once',
    write(X2APIC.LVT_TIMER, DEADLINE),
    write(MSR.IA32_TSC_DEADLINE, 1),
    WAIT,
    ...SETS,
  ),
  one(
    'a deadline that has expired reads as 0',
    write(X2APIC.LVT_TIMER, DEADLINE),
    write(MSR.IA32_TSC_DEADLINE, 1),
    WAIT,
    read(MSR.IA32_TSC_DEADLINE),
  ),
  one(
    'a deadline is kept until it expires',
    write(X2APIC.LVT_TIMER, DEADLINE),
    write(MSR.IA32_TSC_DEADLINE, NEVER),
    read(MSR.IA32_TSC_DEADLINE),
    WAIT,
    ...SETS,
  ),
  one(
    'a deadline of 0 disarms',
    write(X2APIC.LVT_TIMER, DEADLINE),
    write(MSR.IA32_TSC_DEADLINE, NEVER),
    write(MSR.IA32_TSC_DEADLINE, 0),
    read(MSR.IA32_TSC_DEADLINE),
  ),
  one(
    'a change of mode disarms the deadline',
    write(X2APIC.LVT_TIMER, DEADLINE),
    write(MSR.IA32_TSC_DEADLINE, NEVER),
    write(X2APIC.LVT_TIMER, 0xe0),
    write(X2APIC.LVT_TIMER, DEADLINE),
    read(MSR.IA32_TSC_DEADLINE),
  ),
  one(
    'a deadline in another mode is ignored',
    write(X2APIC.LVT_TIMER, 0xe0),
    write(MSR.IA32_TSC_DEADLINE, 1),
    read(MSR.IA32_TSC_DEADLINE),
    WAIT,
    ...SETS,
  ),
  one(
    'the initial count is ignored in TSC-deadline mode',
    write(X2APIC.LVT_TIMER, DEADLINE),
    write(X2APIC.TIMER_INITIAL, 50),
    WAIT,
    read(X2APIC.TIMER_CURRENT),
    ...SETS,
  ),
  one(
    'the fourth timer mode is reserved',
    write(X2APIC.LVT_TIMER, LVT.TIMER_MODE_MASK | 0xe0),
    read(X2APIC.LVT_TIMER),
  ),
];

/** Each titled with its rule. */
export const APIC_CASES: readonly ApicCase[] = [
  ...ACCESS,
  ...PRIORITY,
  ...ERRORS,
  ...COMMANDS,
  ...LOCAL,
  ...TIMERS,
];

const STEPS_A_CASE = 24;

/**
 * Requests, priorities and ends in any order; one vector a class, because the second machine holds back vectors where it
 * should hold back classes.
 */
export function randomApicCases(count: number, random: Random): ApicCase[] {
  const vector = (): number => 0x2a + (random.below(13) << 4);
  const step = (): readonly ApicStep[] => {
    switch (random.below(7)) {
      case 0:
      case 1:
        return [self(vector())];
      case 2:
        return [TAKE, ...PRIORITIES];
      case 3:
        return [EOI, ...PRIORITIES];
      case 4:
        // An interrupt that has been signalled and is withdrawn may be a spurious one: none is left.
        return [TAKE, write(X2APIC.TPR, random.below(0x100)), ...PRIORITIES];
      case 5:
        return [write(X2APIC.ICR, icr(FIXED, random.below(4), vector()))];
      default:
        return [TAKE, EOI];
    }
  };
  return Array.from({ length: count }, (_, index) =>
    one(
      `random accesses ${index + 1}`,
      ...Array.from({ length: STEPS_A_CASE }, step).flat(),
      ...SETS,
    ),
  );
}
