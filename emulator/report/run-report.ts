/**
 * What a run has to say, as plain data: the document that `run --json` prints and that people read as text.
 *
 * Source: CLI ("run"). Counters come from the payload's own telemetry pages beside the machine's ground truth.
 * Invariant: `result` is "pass" only when the scenario was taken to its end and every invariant held.
 */
import { printExitReason } from '../../abi/exit-reasons.js';
import { StructView } from '../../abi/layout.js';
import { CARETAKER_TELEMETRY, CARETAKER_TELEMETRY_REASONS } from '../../abi/telemetry.js';
import { toIndex } from '../../abi/uint.js';
import type { Conductor, ConductorError, Gap } from '../machine/conductor.js';
import type { Lane } from '../machine/lane.js';
import type { InvariantResult } from '../machine/ledger.js';
import type { TimelineEvent } from '../machine/timeline.js';

/** Exits by first outcome. */
export interface OutcomeCounts {
  readonly fastpath: number;
  readonly routed: number;
  readonly blocked: number;
}

/** A payload's telemetry pages, read as KVM would. */
export interface TelemetryReport {
  readonly reasons: Readonly<Record<string, OutcomeCounts>>;
  readonly entryFailures: number;
  readonly strayInterrupts: number;
  readonly nmis: number;
  readonly machineChecks: number;
  readonly stalls: number;
  readonly stallsDropped: number;
  readonly stallTsc: number;
  readonly isParked: boolean;
}

/** One vCPU at the end of a run. */
export interface VcpuReport {
  readonly id: number;
  readonly exits: OutcomeCounts & { readonly total: number };
  readonly telemetry: TelemetryReport;
}

/** The whole document. */
export interface RunReport {
  readonly result: 'pass' | 'fail';
  readonly scenario: string;
  readonly seed: number;
  readonly tscFrequencyHz: number;
  readonly vcpus: readonly VcpuReport[];
  readonly timeline: readonly TimelineEvent[];
  readonly invariants: readonly InvariantResult[];
  readonly gap: Gap | null;
  readonly evidence: Readonly<Record<string, number>>;
  /** The step that the host refused, when the scenario could not be taken to its end. */
  readonly stopped: { readonly code: string; readonly message: string } | null;
}

/** Reports on a run; `stopped` is what ended it early, if anything did. */
export function runReport(
  { machine, scenario, gap }: Conductor,
  stopped: ConductorError | null,
  timelineLength: number,
): RunReport {
  return {
    result: stopped === null && machine.ledger.clean ? 'pass' : 'fail',
    scenario: scenario.name,
    seed: scenario.seed,
    tscFrequencyHz: machine.tscFrequencyHz,
    vcpus: machine.lanes.map(vcpuReport),
    timeline: machine.timeline.mostTelling(timelineLength),
    invariants: machine.ledger.results(),
    gap,
    evidence: machine.evidence,
    stopped: stopped === null ? null : { code: stopped.code, message: stopped.message },
  };
}

function vcpuReport(lane: Lane): VcpuReport {
  const { truth, id } = lane;
  const exits = {
    total: truth.exits,
    fastpath: truth.total('fastpath'),
    routed: truth.total('routed'),
    blocked: truth.total('blocked'),
  };
  return { id, exits, telemetry: telemetryReport(lane) };
}

function telemetryReport({ memory, vcpu }: Lane): TelemetryReport {
  const view = new StructView(CARETAKER_TELEMETRY, memory.bytes, vcpu.memory.at('telemetry'));
  const count = (path: string): number => toIndex(view.get(path));
  const outcomes = (path: string): OutcomeCounts => ({
    fastpath: count(`${path}.fastpath`),
    routed: count(`${path}.routed`),
    blocked: count(`${path}.blocked`),
  });
  const rows = Array.from({ length: CARETAKER_TELEMETRY_REASONS }, (_, basic) => {
    return [printExitReason(basic), outcomes(`reason[${basic}]`)] as const;
  });
  const seen = [...rows, ['OTHER', outcomes('other')] as const].filter(
    ([, { fastpath, routed, blocked }]) => fastpath + routed + blocked > 0,
  );
  return {
    reasons: Object.fromEntries(seen),
    entryFailures: count('entry_failures'),
    strayInterrupts: count('stray_interrupts'),
    nmis: count('nmis'),
    machineChecks: count('machine_checks'),
    stalls: count('stall_head'),
    stallsDropped: count('stall_dropped'),
    stallTsc: count('stall_tsc'),
    isParked: count('park_valid') === 1,
  };
}
