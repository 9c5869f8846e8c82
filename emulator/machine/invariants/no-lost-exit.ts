/**
 * no-lost-exit: every exit has exactly one first outcome; a blocked one is later routed, repeated, serialized or ended.
 *
 * Source: CONTRACT ("Outcome of an exit", "Stop and serialize").
 * Invariant: an exit that begins while another has no outcome means that the first was lost.
 */
import type { Lane } from '../lane.js';
import type { Ledger } from '../ledger.js';
import type { Invariant } from './invariant.js';

const ID = 'no-lost-exit';

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
