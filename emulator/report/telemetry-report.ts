/**
 * A payload's telemetry pages as plain data, read as KVM reads them after the gap.
 *
 * Source: the RFC, "Gap Observability and Telemetry".
 * Invariant: reading consumes nothing. Counts and ticks stay below 2^53 in any run.
 */
import { printExitReason } from '../../abi/exit-reasons.js';
import type { StructView } from '../../abi/layout.js';
import { hex, toIndex } from '../../abi/uint.js';
import { reasonRows, stallsOf } from '../host/kvm/telemetry-file.js';

/** Exits by first outcome. */
export interface OutcomeCounts {
  readonly fastpath: number;
  readonly routed: number;
  readonly blocked: number;
}

/** One wait for KVM, as the payload recorded it. */
export interface StallReport {
  readonly reason: string;
  readonly qualification: string;
  readonly rip: string;
  readonly tscEntry: number;
  readonly tscRelease: number;
}

/** Everything in a vCPU's Telemetry Buffer. */
export interface TelemetryReport {
  readonly reasons: Readonly<Record<string, OutcomeCounts>>;
  readonly entryFailures: number;
  readonly strayInterrupts: number;
  readonly nmis: number;
  readonly machineChecks: number;
  /** Ticks waited, over all stalls. */
  readonly stallTsc: number;
  /** Stalls that the ring had no room for. */
  readonly stallsDropped: number;
  /** What is in the ring, oldest first. */
  readonly stalls: readonly StallReport[];
  readonly isParked: boolean;
}

/** Reads a Telemetry Buffer. */
export function telemetryReport(telemetry: StructView): TelemetryReport {
  const count = (path: string): number => toIndex(telemetry.get(path));
  return {
    reasons: Object.fromEntries(
      reasonRows(telemetry).map(({ reason, fastpath, routed, blocked }) => [
        reason,
        { fastpath: toIndex(fastpath), routed: toIndex(routed), blocked: toIndex(blocked) },
      ]),
    ),
    entryFailures: count('entry_failures'),
    strayInterrupts: count('stray_interrupts'),
    nmis: count('nmis'),
    machineChecks: count('machine_checks'),
    stallTsc: count('stall_tsc'),
    stallsDropped: count('stall_dropped'),
    stalls: stallsOf(telemetry).map((stall) => ({
      reason: printExitReason(stall.exitReason & 0xffff),
      qualification: hex(stall.qualification),
      rip: hex(stall.rip),
      tscEntry: toIndex(stall.tscEntry),
      tscRelease: toIndex(stall.tscRelease),
    })),
    isParked: count('park_valid') === 1,
  };
}
