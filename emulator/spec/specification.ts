/**
 * The executable specification of a Caretaker: for an exit in a state, every next state that the RFC allows.
 *
 * Source: the RFC, "Caretaker VM Exit Flow", "Preservation of the vCPU", "Challenges During Gap"; CONTRACT ("Outcome of an
 * exit", "Who flips, and when", "Stop and serialize"). Written from them and not from a payload's source.
 * Invariant: pure; where the RFC says "may", every choice is in the list, so a payload that blocks what it could answer
 * is a correct one. An empty list says that the payload must not have been entered.
 * Not modelled: an asynchronous detach, which is outside the contract.
 */
import { CARETAKER_EXIT_POLICY } from '../../abi/config.js';
import { decodeExitReason, EXIT_REASON_WORD } from '../../abi/exit-reasons.js';
import { INTR_TYPE } from '../../abi/interruption.js';
import { unreachable } from '../../abi/errors.js';
import { classOf, type Effect } from './reasons.js';

/** One exit, and the state in which it came: all that the choice depends on. */
export interface Situation {
  /** Where HOST_RIP points: KVM's own handler in the `attach` life cycle, from adoption to the next preserve. */
  readonly hostRip: 'payload' | 'kvm';
  /** The attachment flag at the exit. */
  readonly wasAttached: boolean;
  /** Whether KVM attached before the exit had its first outcome. */
  readonly attachedMeanwhile: boolean;
  /** Whether a stop was requested before the exit had its first outcome. */
  readonly stopRequested: boolean;
  /** The whole 32-bit exit-reason word. */
  readonly reasonWord: number;
  /** exit_policy of the basic reason, CARETAKER_EXIT_POLICY bits. */
  readonly policy: number;
  /** VM-exit interruption information, for reasons 0 and 1. */
  readonly interruption: number;
  /** What a machine check that caused the exit left of the guest, by IA32_MCG_STATUS and the banks. */
  readonly severity: 'survivable' | 'action-required' | 'lost';
  /** Whether the instruction at the exit raises an exception under KVM's policy. */
  readonly faultDue: 'never' | 'may' | 'must';
}

/** What a Caretaker has made of an exit. */
export type NextState =
  /** Answered: the guest runs again. */
  | { readonly kind: 'answered'; readonly effect: Effect }
  /** KVM has it. */
  | { readonly kind: 'routed' }
  /** It waits for KVM_ATTACHED. */
  | { readonly kind: 'blocked' }
  /** Stopped on request; `isAnswered` tells whether the exit was answered first. */
  | { readonly kind: 'stopped'; readonly isAnswered: boolean }
  /** The core is parked: the interrupted context is lost. */
  | { readonly kind: 'parked' };

const VALID = 0x8000_0000;
const MACHINE_CHECK = 18;
/** Modifiers of the exit reason that change what the exit is about. */
const MODIFIERS = ~(EXIT_REASON_WORD.BASIC_MASK | EXIT_REASON_WORD.FAILED_VMENTRY);

/** How far a Caretaker may go with an exit by itself. */
interface Answers {
  /** The effects that an answer may have; none when the exit is for KVM. */
  readonly effects: readonly Effect[];
  /** An answer is owed: the event is gone once the exit is over, so blocking would lose it. */
  readonly isOwed: boolean;
  /** The core may be lost instead. */
  readonly mayPark: boolean;
}
const FOR_KVM: Answers = { effects: [], isOwed: false, mayPark: false };

/** Every next state that is right, in no order. */
export function allowedNextStates(situation: Situation): readonly NextState[] {
  if (situation.hostRip === 'kvm') return [];
  const answers = answersTo(situation);
  const states: NextState[] = answers.effects.map((effect) => ({ kind: 'answered', effect }));
  if (answers.mayPark) states.push({ kind: 'parked' });
  if (situation.stopRequested && answers.effects.length > 0)
    states.push({ kind: 'stopped', isAnswered: true });
  if (answers.isOwed) return states;
  if (situation.wasAttached || situation.attachedMeanwhile) states.push({ kind: 'routed' });
  if (!situation.wasAttached) states.push({ kind: 'blocked' });
  if (situation.stopRequested) states.push({ kind: 'stopped', isAnswered: false });
  return states;
}

/** Whether a next state is one of those. */
export function isAllowed(situation: Situation, state: NextState): boolean {
  return allowedNextStates(situation).some((one) => isSame(one, state));
}

/** A next state in words, for a finding. */
export function describeNextState(state: NextState): string {
  switch (state.kind) {
    case 'answered':
      return `answered (${EFFECTS[state.effect]})`;
    case 'stopped':
      return state.isAnswered ? 'stopped, the exit answered' : 'stopped, the exit unanswered';
    case 'routed':
    case 'blocked':
    case 'parked':
      return state.kind;
    default:
      return unreachable(state);
  }
}

const EFFECTS: Readonly<Record<Effect, string>> = {
  completes: 'the instruction completes',
  faults: 'the instruction faults',
  resumes: 'the guest goes on where it was',
};

function isSame(a: NextState, b: NextState): boolean {
  if (a.kind === 'answered' && b.kind === 'answered') return a.effect === b.effect;
  if (a.kind === 'stopped' && b.kind === 'stopped') return a.isAnswered === b.isAnswered;
  return a.kind === b.kind;
}

function answersTo(situation: Situation): Answers {
  const { basic, failedVmentry } = decodeExitReason(situation.reasonWord);
  const isModified = (situation.reasonWord & MODIFIERS) !== 0;
  // A failed entry has run no guest, and a modifier makes the reason another one: both are for KVM to understand.
  if (failedVmentry || isModified || !mayAnswer(situation)) return FOR_KVM;
  const isGap = !situation.wasAttached;
  const kind = classOf(basic);
  switch (kind) {
    case 'fast-path':
      return { effects: instructionEffects(situation.faultDue), isOwed: false, mayPark: false };
    case 'own':
      return { effects: ['resumes'], isOwed: false, mayPark: false };
    case 'external-interrupt':
      // Acknowledged on exit: without an EOI the core would take no other interrupt until KVM is back.
      return isGap && isValid(situation)
        ? { effects: ['resumes'], isOwed: !situation.attachedMeanwhile, mayPark: false }
        : FOR_KVM;
    case 'exception-or-nmi':
      return isGap && isValid(situation) ? answersToReasonZero(situation) : FOR_KVM;
    case 'kvm-instruction':
    case 'kvm-event':
    case 'entry-failure':
      return FOR_KVM;
    default:
      return unreachable(kind);
  }
}

/** NMIs and machine checks are the machine's; another exception is the guest's, and KVM's to look at. */
function answersToReasonZero({ interruption, attachedMeanwhile, severity }: Situation): Answers {
  const type = (interruption >>> 8) & 7;
  const vector = interruption & 0xff;
  const isOwed = !attachedMeanwhile;
  if (type === INTR_TYPE.NMI_INTR) return { effects: ['resumes'], isOwed, mayPark: false };
  if (type === INTR_TYPE.HARD_EXCEPTION && vector === MACHINE_CHECK)
    return severity === 'survivable'
      ? { effects: ['resumes'], isOwed, mayPark: false }
      : // Only the host can repair memory, or tell whose context it was.
        { effects: [], isOwed: false, mayPark: true };
  return FOR_KVM;
}

/** The policy of the state at the exit, or of the one that came while the payload looked. */
function mayAnswer({ policy, wasAttached, attachedMeanwhile }: Situation): boolean {
  const { HANDLE_ATTACHED, HANDLE_DETACHED } = CARETAKER_EXIT_POLICY;
  const bits =
    (wasAttached || attachedMeanwhile ? HANDLE_ATTACHED : 0) | (wasAttached ? 0 : HANDLE_DETACHED);
  return (policy & bits) !== 0;
}

const isValid = ({ interruption }: Situation): boolean => (interruption & VALID) !== 0;

function instructionEffects(faultDue: Situation['faultDue']): readonly Effect[] {
  switch (faultDue) {
    case 'never':
      return ['completes'];
    case 'must':
      return ['faults'];
    case 'may':
      return ['completes', 'faults'];
    default:
      return unreachable(faultDue);
  }
}
