/**
 * Waits for KVM as the machine saw them, from the first poll to the release or to the end of the run.
 *
 * Source: CONTRACT ("Outcome of an exit"): a blocked exit waits for KVM_ATTACHED.
 * Invariant: the ground truth, not what the payload recorded.
 */
import { printExitReason } from '../../abi/exit-reasons.js';
import type { Machine } from '../machine/machine.js';

/** One wait of one vCPU. */
export interface Wait {
  readonly vcpu: number;
  readonly reason: string;
  readonly tscBegin: number;
  readonly tscEnd: number;
  readonly isReleased: boolean;
}

/** Every wait, by vCPU and time. */
export function waitsOf(machine: Machine): readonly Wait[] {
  return machine.lanes.flatMap((lane) => {
    const over = lane.truth.stalls.map(({ basic, tscEntry, tscRelease }) => {
      return { reason: printExitReason(basic), tscBegin: tscEntry, tscEnd: tscRelease };
    });
    const waits = over.map((wait) => ({ vcpu: lane.id, ...wait, isReleased: true }));
    if (!lane.inExit || lane.exit.outcome !== 'blocked') return waits;
    const reason = printExitReason(lane.exit.basic);
    const atHand = { vcpu: lane.id, reason, tscBegin: lane.waitBeganTsc, isReleased: false };
    return [...waits, { ...atHand, tscEnd: machine.now() }];
  });
}
