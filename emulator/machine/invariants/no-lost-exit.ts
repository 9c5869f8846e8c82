/**
 * no-lost-exit: every exit has exactly one first outcome; a blocked one is later routed, repeated, serialized or ended;
 * and the first outcome is one that the executable specification allows.
 *
 * Source: CONTRACT ("Outcome of an exit", "Stop and serialize"); emulator/spec.
 * Invariant: an exit that begins while another has no outcome means that the first was lost.
 */
import { hex } from '../../../abi/uint.js';
import type { Lane } from '../lane.js';
import { rowOf, type Ledger } from '../ledger.js';
import { answeredState, REACHED, specificationDifference } from '../next-state.js';
import type { Invariant } from './invariant.js';

const ID = 'no-lost-exit';
const ROW = rowOf(ID);

/** The first outcome is among those that the executable specification has for the exit. */
function specified(lane: Lane, ledger: Ledger, reached: number): void {
  ledger.count(ROW);
  const difference = specificationDifference(lane, reached);
  if (difference === null) return;
  const why = reached === REACHED.parked ? `${parkedBy(lane)}: ` : '';
  ledger.fail(ID, lane.rip, `${lane.describeExit()}: ${why}${difference}`);
}

/** What the payload says of the fault that ended it. */
function parkedBy({ vcpu }: Lane): string {
  const { ccbView } = vcpu;
  return `vector ${ccbView.number('vector')} at ${hex(ccbView.get('rip'))}`;
}

export function noLostExit(): Invariant {
  return {
    id: ID,
    holdsWhen:
      'every exit has exactly one first outcome, and a blocked one is later routed, serialized or terminated',

    atExit(lane: Lane, ledger: Ledger): void {
      ledger.count(ROW);
      if (!lane.inExit) return;
      ledger.fail(
        ID,
        lane.rip,
        `vCPU ${lane.id}: an exit came before the one before had an outcome`,
      );
    },

    atResume(lane: Lane, ledger: Ledger): void {
      ledger.count(ROW);
      if (lane.exit.outcome === 'blocked') {
        ledger.fail(
          ID,
          lane.rip,
          `${lane.describeExit()}: blocked, and then resumed without KVM having seen it`,
        );
      }
      if (lane.exit.outcome === 'fastpath') specified(lane, ledger, answeredState(lane));
    },

    atRoute(lane: Lane, ledger: Ledger): void {
      if (lane.exit.outcome === 'routed') specified(lane, ledger, REACHED.routed);
    },
    atHandOver(lane: Lane, ledger: Ledger): void {
      if (lane.exit.outcome !== 'blocked' || lane.exit.hasStopped) return;
      ledger.fail(
        ID,
        lane.rip,
        `${lane.describeExit()}: blocked, and then left for a host event without KVM having seen it`,
      );
    },
    atBlock(lane: Lane, ledger: Ledger): void {
      if (lane.exit.hasWaited) specified(lane, ledger, REACHED.blocked);
    },
    atStop(lane: Lane, ledger: Ledger): void {
      if (lane.exit.hasWaited) return;
      const isAnswered = lane.exit.outcome === 'fastpath';
      specified(lane, ledger, isAnswered ? REACHED.stoppedAnswered : REACHED.stoppedUnanswered);
    },
    atPark(lane: Lane, ledger: Ledger): void {
      // An event that came meanwhile is no outcome of the exit's own; nmi and telemetry judge that.
      if (lane.exit.mayEnd && !lane.exit.isMachineCheck) return;
      if (lane.inExit && lane.exit.outcome === null) specified(lane, ledger, REACHED.parked);
    },

    atEnd(lane: Lane, ledger: Ledger): void {
      const isMoving = lane.phase === 'guest' || lane.phase === 'in-kvm' || lane.hasEnded;
      ledger.expect(
        ID,
        isMoving,
        lane.rip,
        () => `vCPU ${lane.id}: the run ends with an exit unanswered (${lane.phase})`,
      );
    },
  };
}
