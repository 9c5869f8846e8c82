/**
 * Which bytes of a vCPU's pages others may read or write while its payload runs.
 *
 * Source: CONTRACT ("CCB", "Soft state"); include/caretaker/telemetry.h.
 * Invariant: between vCPUs nothing is shared but posted interrupts: a store to another byte of a peer's soft state is one
 * that no payload may make, and every other page is mapped for its owner alone. The rest is between a vCPU and KVM.
 */
import { CARETAKER_CCB } from '../../../abi/ccb.js';
import { offsetsOf } from '../../../abi/layout.js';
import { CARETAKER_SOFT_STATE } from '../../../abi/soft-state.js';
import {
  CARETAKER_STALL,
  CARETAKER_STALL_RING,
  CARETAKER_TELEMETRY,
} from '../../../abi/telemetry.js';
import type { Lane } from '../../machine/lane.js';

/** Bytes of physical memory. */
export interface SharedRange {
  readonly from: number;
  readonly sizeBytes: number;
}

const CCB = offsetsOf<'state' | 'attach_state' | 'vmcs_address'>(CARETAKER_CCB);
const SOFT = offsetsOf<'posted' | 'reserved_posted'>(CARETAKER_SOFT_STATE);
const TELEMETRY = offsetsOf<'stall_tsc' | 'last_exit_reason' | 'stall'>(CARETAKER_TELEMETRY);
const RING_BYTES = CARETAKER_STALL_RING * CARETAKER_STALL.sizeBytes;

const span = (from: number, to: number): SharedRange => ({ from, sizeBytes: to - from });

/** Interrupts that others post to a vCPU. */
export const postedOf = ({ softState }: Lane): SharedRange =>
  span(softState + SOFT.posted, softState + SOFT.reserved_posted);

/** All that a vCPU shares with KVM. */
export const sharedOf = (lane: Lane): readonly SharedRange[] => [
  span(lane.ccb + CCB.state, lane.ccb + CCB.state + 4),
  span(lane.ccb + CCB.attach_state, lane.ccb + CCB.vmcs_address),
  postedOf(lane),
  span(lane.telemetry + TELEMETRY.stall_tsc, lane.telemetry + TELEMETRY.last_exit_reason),
  span(lane.telemetry + TELEMETRY.stall, lane.telemetry + TELEMETRY.stall + RING_BYTES),
];
