/** The executable specification: rows from the RFC and CONTRACT.md, and rules that hold for every exit in every state. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CARETAKER_EXIT_POLICY } from '../../abi/config.js';
import { EXIT_REASON, EXIT_REASON_COUNT, exitReasonName } from '../../abi/exit-reasons.js';
import { classOf, CLASS_RULES } from '../../emulator/spec/reasons.js';
import {
  allowedNextStates,
  describeNextState,
  isAllowed,
  type NextState,
  type Situation,
} from '../../emulator/spec/specification.js';

const { HANDLE_ATTACHED, HANDLE_DETACHED } = CARETAKER_EXIT_POLICY;
const BOTH = HANDLE_ATTACHED | HANDLE_DETACHED;
const NMI = 0x8000_0202;
const MACHINE_CHECK = 0x8000_0312;
const PAGE_FAULT = 0x8000_0b0e;
const INTERRUPT_41 = 0x8000_0041;

/** A handled instruction exit in the gap, with what a row changes. */
const situation = (changes: Partial<Situation>): Situation => ({
  hostRip: 'payload',
  wasAttached: false,
  attachedMeanwhile: false,
  stopRequested: false,
  reasonWord: EXIT_REASON.EXIT_REASON_CPUID,
  policy: BOTH,
  interruption: 0,
  severity: 'survivable',
  faultDue: 'never',
  ...changes,
});

const words = (changes: Partial<Situation>): readonly string[] =>
  allowedNextStates(situation(changes)).map(describeNextState).toSorted();

const COMPLETES = 'answered (the instruction completes)';
const FAULTS = 'answered (the instruction faults)';
const RESUMES = 'answered (the guest goes on where it was)';

// prettier-ignore
const ROWS: readonly (readonly [rule: string, changes: Partial<Situation>, allowed: readonly string[]])[] = [
  ['the RFC, Fast Path: CPUID is resolved from the shared metadata, or waits', {}, [COMPLETES, 'blocked']],
  ['the RFC, Fast Path: while attached it may as well be forwarded', { wasAttached: true }, [COMPLETES, 'routed']],
  ['CONTRACT: by default everything blocks', { policy: 0 }, ['blocked']],
  ['the RFC, Host Routing: by default everything is routed while attached', { policy: 0, wasAttached: true }, ['routed']],
  ['a policy bit for one state says nothing about the other', { policy: HANDLE_ATTACHED }, ['blocked']],
  ['CONTRACT: an MSR access that the policy refuses faults', { reasonWord: EXIT_REASON.EXIT_REASON_MSR_WRITE, faultDue: 'must' }, [FAULTS, 'blocked']],
  ['CONTRACT: an MSR access may fault where VM entry would refuse the value', { reasonWord: EXIT_REASON.EXIT_REASON_MSR_WRITE, faultDue: 'may' }, [COMPLETES, FAULTS, 'blocked']],
  ['the RFC, Host Routing: a page fault is never resolved locally', { reasonWord: EXIT_REASON.EXIT_REASON_EPT_VIOLATION }, ['blocked']],
  ['the RFC, Host Routing: emulated device I/O is never resolved locally', { reasonWord: EXIT_REASON.EXIT_REASON_IO_INSTRUCTION, wasAttached: true }, ['routed']],
  ['CONTRACT: XSETBV, INVD, WBINVD and the rest are routed or block', { reasonWord: EXIT_REASON.EXIT_REASON_XSETBV }, ['blocked']],
  ['a reserved reason blocks', { reasonWord: 35 }, ['blocked']],
  ['CONTRACT: the preemption timer is the payload\'s own', { reasonWord: EXIT_REASON.EXIT_REASON_PREEMPTION_TIMER }, [RESUMES, 'blocked']],
  ['CONTRACT: an external interrupt is always routed while attached', { reasonWord: 1, wasAttached: true, interruption: INTERRUPT_41 }, ['routed']],
  ['CONTRACT: in the gap an acknowledged interrupt gets its EOI', { reasonWord: 1, interruption: INTERRUPT_41 }, [RESUMES]],
  ['an interrupt that was not acknowledged is not understood', { reasonWord: 1 }, ['blocked']],
  ['CONTRACT: an NMI in the gap is serviced and resumed', { reasonWord: 0, interruption: NMI }, [RESUMES]],
  ['CONTRACT: while attached an NMI is the host\'s', { reasonWord: 0, interruption: NMI, wasAttached: true }, ['routed']],
  ['SDM: a machine check after which the guest can go on is serviced and resumed', { reasonWord: 0, interruption: MACHINE_CHECK }, [RESUMES]],
  ['SDM: software recoverable, action required: the guest waits for who repairs its memory, or ends', { reasonWord: 0, interruption: MACHINE_CHECK, severity: 'action-required' }, ['blocked', 'parked']],
  ['SDM: a machine check that lost its context ends the core, or waits for KVM', { reasonWord: 0, interruption: MACHINE_CHECK, severity: 'lost' }, ['blocked', 'parked']],
  ['CONTRACT: other exceptions block', { reasonWord: 0, interruption: PAGE_FAULT }, ['blocked']],
  ['a failed VM entry is for KVM, whatever its basic reason', { reasonWord: 0x8000_0000 | EXIT_REASON.EXIT_REASON_CPUID }, ['blocked']],
  ['a modifier above the basic reason is for KVM', { reasonWord: 0x0400_0000 | EXIT_REASON.EXIT_REASON_CPUID, wasAttached: true }, ['routed']],
  ['KVM_ATTACHED may come at any instruction: what blocks may be routed instead', { policy: 0, attachedMeanwhile: true }, ['blocked', 'routed']],
  ['CONTRACT, Stop: the exit is answered first, unanswered it counts as blocked', { stopRequested: true }, [COMPLETES, 'blocked', 'stopped, the exit answered', 'stopped, the exit unanswered']],
  ['CONTRACT, Stop: nothing that only KVM can answer is answered by a stop', { stopRequested: true, policy: 0 }, ['blocked', 'stopped, the exit unanswered']],
  ['in the attach life cycle no exit passes a payload once KVM has adopted the vCPU', { hostRip: 'kvm', wasAttached: true }, []],
];

describe('what a Caretaker may do with an exit', () => {
  it.each(ROWS)('%s', (_rule, changes, allowed) => {
    expect(words(changes)).toEqual(allowed.toSorted());
  });
});

const arbitrary: fc.Arbitrary<Situation> = fc.record({
  hostRip: fc.constantFrom('payload', 'kvm'),
  wasAttached: fc.boolean(),
  attachedMeanwhile: fc.boolean(),
  stopRequested: fc.boolean(),
  reasonWord: fc.oneof(
    fc.nat(EXIT_REASON_COUNT + 2),
    fc.nat(EXIT_REASON_COUNT).map((basic) => (basic | 0x8000_0000) >>> 0),
    fc.nat(0xffff_ffff),
  ),
  policy: fc.constantFrom(0, HANDLE_ATTACHED, HANDLE_DETACHED, BOTH),
  severity: fc.constantFrom('survivable', 'action-required', 'lost'),
  interruption: fc.constantFrom(0, NMI, MACHINE_CHECK, PAGE_FAULT, INTERRUPT_41),
  faultDue: fc.constantFrom('never', 'may', 'must'),
});
const always = (holds: (one: Situation, states: readonly NextState[]) => boolean): void => {
  fc.assert(fc.property(arbitrary, (one) => holds(one, allowedNextStates(one))));
};
const has = (states: readonly NextState[], kind: NextState['kind']): boolean =>
  states.some((state) => state.kind === kind);

describe('for every exit in every state', () => {
  it('something is allowed, unless the payload should not have been entered', () => {
    always(({ hostRip }, states) => states.length > 0 || hostRip === 'kvm');
  });
  it('nothing is routed that saw no KVM_ATTACHED', () => {
    always((one, states) => one.wasAttached || one.attachedMeanwhile || !has(states, 'routed'));
  });
  it('nothing blocks while KVM is attached', () => {
    always((one, states) => !one.wasAttached || !has(states, 'blocked'));
  });
  it('nothing is answered that the policy gives to KVM', () => {
    always((one, states) => one.policy !== 0 || !has(states, 'answered'));
  });
  it('only a machine check parks a core', () => {
    always((one, states) => !has(states, 'parked') || one.interruption === MACHINE_CHECK);
  });
  it('a policy that allows more never takes a choice away, but for events that are gone when the exit is over', () => {
    always((one, states) => {
      const stricter = allowedNextStates({ ...one, policy: 0 });
      const isEvent = (one.reasonWord & 0xffff) <= 1;
      return isEvent || stricter.every((state) => isAllowed(one, state) && states.length > 0);
    });
  });
});

describe('the table of reasons', () => {
  it('has a class with a sentence for every reason, and takes a reserved one for KVM', () => {
    for (let basic = 0; basic < EXIT_REASON_COUNT; basic++) {
      expect(CLASS_RULES[classOf(basic)]).toBeTruthy();
      if (exitReasonName(basic) === undefined) expect(classOf(basic)).toBe('kvm-event');
    }
  });
});
