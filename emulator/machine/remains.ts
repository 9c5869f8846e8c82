/**
 * What there is to report of a vCPU beside its exits: read from its pages, or kept from them when they were freed.
 *
 * Source: CLI ("run"); the RFC, "Gap Observability and Telemetry".
 */
import { StructView } from '../../abi/layout.js';
import { PhysicalMemory } from '../memory/physical-memory.js';
import { deepestUse } from './invariants/stack.js';
import type { Lane } from './lane.js';

export interface Remains {
  readonly telemetry: StructView;
  /** What the payload says of itself: RUNNING, SPINNING, SERIALIZED, PARKED. */
  readonly payloadState: string;
  /** Deepest use of the payload's stack. */
  readonly stackBytesUsed: number;
}

/** A lane's own, as long as it has its pages. */
export function remainsOf(lane: Lane): Remains {
  const { telemetry, payloadState } = lane.vcpu;
  return lane.remains ?? { telemetry, payloadState, stackBytesUsed: deepestUse(lane) };
}

/** The vCPU has ended at `now`, and its pages are about to be freed; an exit that blocked has waited until it stopped. */
export function endLane(lane: Lane, now: number): void {
  const { telemetry, ...rest } = remainsOf(lane);
  const { layout, address } = telemetry;
  const copy = new PhysicalMemory(lane.memory.bytes.read(address, layout.sizeBytes).slice().buffer);
  lane.remains = { ...rest, telemetry: new StructView(layout, copy, 0n) };
  const { truth, exit, waitBeganTsc } = lane;
  if (truth.total('blocked') > truth.stalls.length)
    truth.addStall({ basic: exit.basic, tscEntry: waitBeganTsc, tscRelease: now });
  lane.inExit = false;
  exit.mayEnd = true;
  lane.phase = 'stopped';
}
