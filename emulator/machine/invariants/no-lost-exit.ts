/**
 * no-lost-exit: every exit has exactly one first outcome; a blocked one is later routed, repeated, serialized or ended;
 * and KVM sees each exit that it did not leave to the payload.
 *
 * Source: CONTRACT ("Outcome of an exit", "Exit policy per reason", "Stop and serialize").
 * Invariant: an exit that begins while another has no outcome means that the first was lost.
 */
import {
  CARETAKER_CONFIG,
  CARETAKER_EXIT_POLICY,
  CARETAKER_EXIT_POLICY_MAX,
} from '../../../abi/config.js';
import { offsetsOf } from '../../../abi/layout.js';
import type { Lane } from '../lane.js';
import type { Ledger } from '../ledger.js';
import type { Invariant } from './invariant.js';

const ID = 'no-lost-exit';
const EXIT_POLICY = offsetsOf<'exit_policy'>(CARETAKER_CONFIG).exit_policy;

/** Whether KVM left this exit to the payload, in the state of attachment in which it came. */
function mayAnswer(lane: Lane): boolean {
  const { basic, wasAttached } = lane.exit;
  if (basic >= CARETAKER_EXIT_POLICY_MAX) return false;
  const bits = lane.memory.bytes.bytes[lane.config + EXIT_POLICY + basic]!;
  // While an exit is handled KVM may attach, so either bit will do for one that came detached.
  const wanted = wasAttached
    ? CARETAKER_EXIT_POLICY.HANDLE_ATTACHED
    : CARETAKER_EXIT_POLICY.HANDLE_ATTACHED | CARETAKER_EXIT_POLICY.HANDLE_DETACHED;
  return (bits & wanted) !== 0;
}

export function noLostExit(): Invariant {
  return {
    id: ID,
    holdsWhen:
      'every exit has exactly one first outcome, and a blocked one is later routed, serialized or terminated',

    atExit(lane: Lane, ledger: Ledger): void {
      ledger.expect(
        ID,
        !lane.inExit,
        lane.rip,
        () => `vCPU ${lane.id}: an exit came before the one before had an outcome`,
      );
    },

    atResume(lane: Lane, ledger: Ledger): void {
      const lost = lane.exit.outcome === 'blocked';
      ledger.expect(
        ID,
        !lost,
        lane.rip,
        () => `${lane.describeExit()}: blocked, and then resumed without KVM having seen it`,
      );
      if (lane.exit.outcome === 'fastpath' && !mayAnswer(lane)) {
        ledger.fail(
          ID,
          lane.rip,
          `${lane.describeExit()}: answered, although the exit policy gives it to KVM`,
        );
      }
    },

    atEnd(lane: Lane, ledger: Ledger): void {
      const isMoving = lane.phase === 'guest' || lane.phase === 'in-kvm';
      ledger.expect(
        ID,
        isMoving,
        lane.rip,
        () => `vCPU ${lane.id}: the run ends with an exit unanswered (${lane.phase})`,
      );
    },
  };
}
