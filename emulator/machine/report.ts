/**
 * What a run comes to: the document of `run --json`, from which the text for people is made too.
 *
 * Source: CLI (`run`).
 * Invariant: plain data; counts are numbers below 2^53, addresses and 64-bit values hex strings.
 */
import { CARETAKER_RUN_STATE } from '../../abi/ccb.js';
import { hex } from '../../abi/uint.js';
import { printExitReason } from '../../abi/exit-reasons.js';
import { reasonRows, stallsOf } from '../host/kvm/telemetry-file.js';
import type { Finding } from '../vmx/stop-reason.js';
import { Conductor, type Gap } from './conductor.js';
import { deepestUse } from './invariants/stack.js';
import type { Lane } from './lane.js';
import type { InvariantResult } from './ledger.js';
import type { Scenario } from './scenario/schema.js';
import type { ExitSlice, TimelineEvent } from './timeline.js';

/** Exits by first outcome. */
export interface OutcomeCounts {
  readonly total: number;
  readonly fastpath: number;
  readonly routed: number;
  readonly blocked: number;
}

/** The telemetry buffer of a vCPU as the payload left it. */
export interface TelemetryReport {
  readonly reasons: Readonly<Record<string, Omit<OutcomeCounts, 'total'>>>;
  readonly entryFailures: number;
  readonly strayInterrupts: number;
  readonly nmis: number;
  readonly machineChecks: number;
  /** Ticks waited, over all stalls. */
  readonly stallTsc: number;
  readonly stallsDropped: number;
  readonly stalls: readonly {
    readonly reason: string;
    readonly qualification: string;
    readonly rip: string;
    readonly tscEntry: number;
    readonly tscRelease: number;
  }[];
}

export interface VcpuReport {
  readonly id: number;
  readonly pcpu: number;
  readonly exits: OutcomeCounts;
  readonly payloadState: string;
  /** Deepest use of the payload's stack, in bytes. */
  readonly stackBytes: number;
  readonly telemetry: TelemetryReport;
}

export interface RunReport {
  readonly result: 'pass' | 'fail';
  readonly scenario: string;
  readonly description: string;
  readonly seed: number;
  readonly tscFrequencyHz: number;
  readonly tscEnd: number;
  readonly vcpus: readonly VcpuReport[];
  readonly timeline: readonly Omit<TimelineEvent, 'weight'>[];
  readonly invariants: readonly InvariantResult[];
  readonly findings: readonly {
    readonly invariant: string;
    readonly message: string;
    readonly address: string;
  }[];
  readonly gap: Gap | null;
  readonly evidence: Readonly<Record<string, number>>;
  /** Evaluations of invariants, over the whole run. */
  readonly checks: number;
}

/** A finished run, with what a trace needs. */
export interface FinishedRun {
  readonly report: RunReport;
  readonly slices: readonly ExitSlice[];
  readonly conductor: Conductor;
}

/** What a caller may choose. */
export interface RunOptions {
  /** Events kept in the timeline. */
  readonly timeline?: number;
  /** Whether every exit is kept, for a trace. */
  readonly slices?: boolean;
}

/** Runs a scenario over a payload's bytes. @throws ConductorError, LoaderError. */
export function runScenario(
  scenario: Scenario,
  payload: Uint8Array,
  options: RunOptions = {},
): FinishedRun {
  const conductor = new Conductor(scenario, payload, options.slices ?? false);
  conductor.run();
  return {
    conductor,
    slices: conductor.machine.timeline.slices,
    report: makeReport(conductor, options.timeline ?? 200),
  };
}

function makeReport(conductor: Conductor, timeline: number): RunReport {
  const { machine, scenario, gap } = conductor;
  return {
    result: machine.ledger.clean ? 'pass' : 'fail',
    scenario: scenario.name,
    description: scenario.description,
    seed: scenario.seed,
    tscFrequencyHz: machine.tscFrequencyHz,
    tscEnd: machine.now(),
    vcpus: machine.lanes.map(vcpuReport),
    timeline: machine.timeline
      .mostTelling(timeline)
      .map(({ tsc, vcpu, event }) => ({ tsc, vcpu, event })),
    invariants: machine.ledger.results(),
    findings: machine.ledger.findings.map(findingReport),
    gap,
    evidence: machine.evidence,
    checks: machine.ledger.totalChecked,
  };
}

const findingReport = ({ invariant, message, address }: Finding) => ({
  invariant,
  message,
  address: hex(address),
});

function vcpuReport(lane: Lane): VcpuReport {
  const { truth } = lane;
  return {
    id: lane.id,
    pcpu: lane.pcpu.id,
    exits: {
      total: truth.exits,
      fastpath: truth.total('fastpath'),
      routed: truth.total('routed'),
      blocked: truth.total('blocked'),
    },
    payloadState: lane.vcpu.payloadState satisfies keyof typeof CARETAKER_RUN_STATE,
    stackBytes: deepestUse(lane),
    telemetry: telemetryReport(lane),
  };
}

/** Counts and ticks stay below 2^53 in any run. */
const count = (value: bigint): number => Number.parseInt(value.toString(), 10);

function telemetryReport(lane: Lane): TelemetryReport {
  const { telemetry } = lane.vcpu;
  return {
    reasons: Object.fromEntries(
      reasonRows(telemetry).map((row) => [
        row.reason,
        { fastpath: count(row.fastpath), routed: count(row.routed), blocked: count(row.blocked) },
      ]),
    ),
    entryFailures: count(telemetry.get('entry_failures')),
    strayInterrupts: count(telemetry.get('stray_interrupts')),
    nmis: count(telemetry.get('nmis')),
    machineChecks: count(telemetry.get('machine_checks')),
    stallTsc: count(telemetry.get('stall_tsc')),
    stallsDropped: count(telemetry.get('stall_dropped')),
    stalls: stallsOf(telemetry).map((stall) => ({
      reason: printExitReason(stall.exitReason & 0xffff),
      qualification: hex(stall.qualification),
      rip: hex(stall.rip),
      tscEntry: count(stall.tscEntry),
      tscRelease: count(stall.tscRelease),
    })),
  };
}
