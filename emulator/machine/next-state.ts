/**
 * What a payload made of an exit, as the executable specification names it, and whether it is among what that allows.
 *
 * Source: emulator/spec; CONTRACT ("Outcome of an exit").
 * Invariant: judged once an exit, at its first outcome. The specification is asked once for each kind of situation: its
 * answers are kept as bit masks, because this is on the path of every exit.
 * Not modelled: a request or an attachment that came and went within one exit.
 */
import { CARETAKER_ATTACH_STATE, CARETAKER_CCB, CARETAKER_REQUEST } from '../../abi/ccb.js';
import { CARETAKER_CONFIG, CARETAKER_EXIT_POLICY_MAX } from '../../abi/config.js';
import { INTR_TYPE } from '../../abi/interruption.js';
import { offsetsOf } from '../../abi/layout.js';
import { VMCS_SLOT } from '../../abi/vmcs-fields.js';
import {
  allowedNextStates,
  describeNextState,
  type NextState,
  type Situation,
} from '../spec/specification.js';
import { AT_EXIT } from './exit-record.js';
import type { Lane } from './lane.js';
import { faultDue } from './invariants/answers.js';

const CCB = offsetsOf<'attach_state' | 'request'>(CARETAKER_CCB);
const EXIT_POLICY = offsetsOf<'exit_policy'>(CARETAKER_CONFIG).exit_policy;

/** Every next state; its position is its bit. */
const STATES = [
  { kind: 'answered', effect: 'completes' },
  { kind: 'answered', effect: 'faults' },
  { kind: 'answered', effect: 'resumes' },
  { kind: 'routed' },
  { kind: 'blocked' },
  { kind: 'stopped', isAnswered: true },
  { kind: 'stopped', isAnswered: false },
  { kind: 'parked' },
] as const satisfies readonly NextState[];
const NAMES = STATES.map(describeNextState);
const bitOf = (state: NextState): number => 1 << NAMES.indexOf(describeNextState(state));

/** The bit of each state that needs no look at the guest. */
export const REACHED = {
  routed: bitOf({ kind: 'routed' }),
  blocked: bitOf({ kind: 'blocked' }),
  stoppedAnswered: bitOf({ kind: 'stopped', isAnswered: true }),
  stoppedUnanswered: bitOf({ kind: 'stopped', isAnswered: false }),
  parked: bitOf({ kind: 'parked' }),
} as const;
const COMPLETES = bitOf({ kind: 'answered', effect: 'completes' });
const FAULTS = bitOf({ kind: 'answered', effect: 'faults' });
const RESUMES = bitOf({ kind: 'answered', effect: 'resumes' });

/** The state of an exit that has been answered: seen by what became of GUEST_RIP, and by what VM entry injects. */
export function answeredState(lane: Lane): number {
  if (lane.injectsFault()) return FAULTS;
  const { words } = lane.vmcs;
  const isUnmoved =
    words[2 * VMCS_SLOT.GUEST_RIP] === lane.exit.low(AT_EXIT.GUEST_RIP) &&
    words[2 * VMCS_SLOT.GUEST_RIP + 1] === lane.exit.high(AT_EXIT.GUEST_RIP);
  return isUnmoved ? RESUMES : COMPLETES;
}

/** Why the specification does not allow the state that was reached, or null. */
export function specificationDifference(lane: Lane, reached: number): string | null {
  const mask = allowedMask(lane);
  if ((mask & reached) !== 0) return null;
  const allowed = NAMES.filter((_, bit) => (mask & (1 << bit)) !== 0);
  const wanted = allowed.length === 0 ? 'no exit here at all' : allowed.join(', or ');
  return `${NAMES[31 - Math.clz32(reached)]!}; the specification allows ${wanted}`;
}

const UNKNOWN = 0x8000;
const KINDS_OF_INTERRUPTION = 7;
/** By key: what the specification allows, UNKNOWN until it was asked. */
const masks = new Uint16Array((KINDS_OF_INTERRUPTION << 14) + (1 << 14)).fill(UNKNOWN);

function allowedMask(lane: Lane): number {
  // Modifiers, failed entries and reasons beyond the policy's table are rare.
  if (lane.exit.reasonWord >= CARETAKER_EXIT_POLICY_MAX) return ask(situationOf(lane));
  const key = keyOf(lane);
  const known = masks[key]!;
  return known === UNKNOWN ? (masks[key] = ask(situationOf(lane))) : known;
}

const ask = (situation: Situation): number =>
  allowedNextStates(situation).reduce((mask, state) => mask | bitOf(state), 0);

const isAttached = (lane: Lane): boolean =>
  lane.memory.words[(lane.ccb + CCB.attach_state) >>> 2] === CARETAKER_ATTACH_STATE.KVM_ATTACHED;
const isStopRequested = (lane: Lane): boolean =>
  lane.exit.requestEnded ||
  lane.memory.words[(lane.ccb + CCB.request) >>> 2] === CARETAKER_REQUEST.STOP;
const policyOf = (lane: Lane): number =>
  lane.exit.basic < CARETAKER_EXIT_POLICY_MAX
    ? lane.memory.bytes.bytes[lane.config + EXIT_POLICY + lane.exit.basic]!
    : 0;

/** All that the specification looks at, in 7 bits of reason, 3 of state, 2 of policy, 2 of fault and the interruption. */
function keyOf(lane: Lane): number {
  const { exit } = lane;
  return (
    exit.basic |
    ((exit.wasAttached ? 1 : 0) << 7) |
    ((isAttached(lane) ? 1 : 0) << 8) |
    ((isStopRequested(lane) ? 1 : 0) << 9) |
    ((policyOf(lane) & 3) << 10) |
    (FAULT_KEY[faultDue(lane)] << 12) |
    (interruptionKind(exit.low(AT_EXIT.VM_EXIT_INTR_INFO), exit.severity) << 14)
  );
}

function situationOf(lane: Lane): Situation {
  const { exit } = lane;
  return {
    hostRip: 'payload',
    wasAttached: exit.wasAttached,
    attachedMeanwhile: !exit.wasAttached && isAttached(lane),
    stopRequested: isStopRequested(lane),
    reasonWord: exit.reasonWord,
    policy: policyOf(lane),
    interruption: exit.low(AT_EXIT.VM_EXIT_INTR_INFO),
    severity: exit.severity,
    faultDue: faultDue(lane),
  };
}

const FAULT_KEY = { never: 0, may: 1, must: 2 } as const;
const MACHINE_CHECK = 18;
const SEVERITY_KIND = { survivable: 3, 'action-required': 5, lost: 6 } as const;

/** The kinds of interruption that the specification tells apart. */
function interruptionKind(interruption: number, severity: Situation['severity']): number {
  if (interruption >>> 31 === 0) return 0;
  const type = (interruption >>> 8) & 7;
  if (type === INTR_TYPE.NMI_INTR) return 1;
  if (type !== INTR_TYPE.HARD_EXCEPTION) return 2;
  return (interruption & 0xff) === MACHINE_CHECK ? SEVERITY_KIND[severity] : 4;
}
