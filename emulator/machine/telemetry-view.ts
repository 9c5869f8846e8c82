/**
 * What a payload's telemetry says while an exit is in its hands.
 *
 * Source: abi/telemetry.ts.
 */
import { offsetsOf } from '../../abi/layout.js';
import { CARETAKER_COUNTERS, CARETAKER_TELEMETRY } from '../../abi/telemetry.js';
import type { Lane } from './lane.js';

const BLOCKED =
  offsetsOf<'total'>(CARETAKER_TELEMETRY).total + offsetsOf<'blocked'>(CARETAKER_COUNTERS).blocked;

/** Whether the payload counts one exit more as blocked than have been until now. */
export function hasCountedBlocked(lane: Lane): boolean {
  const counted = lane.memory.words[(lane.telemetry + BLOCKED) >>> 2]!;
  return counted === lane.truth.total('blocked') + 1;
}
