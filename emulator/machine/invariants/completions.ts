/**
 * completions: no completion of a passed-through device is lost: it is in guest memory, and its interrupt is handed to the
 * vCPU that it is for within a bound, whatever that vCPU does meanwhile.
 *
 * Source: the RFC, "VFIO Interrupt Routing"; CONTRACT ("What the payload handles", "Soft state").
 * Invariant: what the guest makes of it is the guest's: with interrupts off, or the vector in service, it waits in the
 * virtual APIC. A vCPU that has ended or waits for KVM sees nothing, and one that KVM keeps is KVM's to tell.
 */
import { CARETAKER_RUN_STATE } from '../../../abi/ccb.js';
import { hex } from '../../../abi/uint.js';
import { HAND_OVER_TICKS } from '../completions.js';
import type { Lane } from '../lane.js';
import { payloadStateOf } from '../wake.js';
import type { Invariant } from './invariant.js';

const ID = 'completions';

export const completions: Invariant = {
  id: ID,
  holdsWhen:
    "every completion of a device is in guest memory, and its interrupt at the guest's vCPU within the bound",

  atCompletionsSeen(lane, ledger, queue, count): void {
    ledger.expect(
      ID,
      count === BigInt(queue.completed),
      queue.hpa,
      () =>
        `vCPU ${lane.id}: queue ${queue.index} has ${queue.completed} completions, and guest memory says ${count}`,
    );
  },

  atHandOverDue(lane, ledger, queue, completed): void {
    if (!isRunning(lane)) return;
    const { guestVector, seen } = queue;
    const isThere =
      seen >= completed || (lane.hasPending(guestVector) && !lane.isPosted(guestVector));
    ledger.expect(
      ID,
      isThere,
      lane.rip,
      () =>
        `vCPU ${lane.id} (${lane.phase}): completion ${completed} of queue ${queue.index} is ${HAND_OVER_TICKS} ticks old, and vector ${hex(queue.guestVector)} has not come`,
    );
  },
};

function isRunning(lane: Lane): boolean {
  if (lane.phase === 'stopped' || lane.phase === 'in-kvm' || isBlocked(lane)) return false;
  return payloadStateOf(lane) !== CARETAKER_RUN_STATE.SERIALIZED;
}

const isBlocked = ({ inExit, exit }: Lane): boolean => inExit && exit.outcome === 'blocked';
