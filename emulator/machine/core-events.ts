/**
 * What a core tells the machine while it executes: to whom it is passed on.
 *
 * Source: DESIGN ("One VM exit, as the data flows").
 * Invariant: what happens while the kernel calls a payload happens to the kernel, and reaches no vCPU.
 */
import { VECTOR } from '../../abi/interruption.js';
import type { PcpuEvents } from '../vmx/pcpu.js';
import { onDelivery } from './interposed-events.js';
import type { Lane } from './lane.js';
import type { Machine } from './machine.js';
import type { PayloadRunner } from './payload-runner.js';

/** The events of one core; `payload` is asked for when the first comes, for cores are made before it. */
export function coreEvents(
  machine: Machine,
  pcpuId: number,
  payload: () => PayloadRunner,
): Partial<PcpuEvents> {
  const laneIn = (): Lane | undefined =>
    machine.core(pcpuId).isCalling ? undefined : machine.laneOn(pcpuId);
  return {
    onPause: (site) => {
      const lane = laneIn();
      return lane === undefined ? 'continue' : payload().onPause(lane, site);
    },
    onException: (exception, address) => {
      const lane = laneIn();
      if (lane === undefined) return 'stop';
      // A breakpoint is before its instruction, and so before what the fetch of that comes to.
      const isFetch = exception.vector === VECTOR.PF && exception.address === address;
      if (isFetch && machine.debug?.stopsFetch?.(lane, address) === true) return 'stop';
      payload().onException(lane, exception, address);
      return 'deliver';
    },
    onDelivery: (event, interrupted, result) => {
      const lane = laneIn();
      if (lane === undefined) return;
      onDelivery(machine, lane, event, interrupted, result);
      if (result.kind === 'delivered') machine.debug?.delivered?.(lane, interrupted);
    },
    onFinding: ({ invariant, address, message, details }) => {
      const lane = laneIn();
      const where = lane?.inExit === true ? `${lane.describeExit()}: ` : '';
      machine.ledger.fail(invariant, address, where + message, details);
      return 'continue';
    },
    onEoi: (vector) => {
      const lane = laneIn();
      if (vector === null && lane?.inExit === true) lane.exit.strayEois++;
    },
  };
}
