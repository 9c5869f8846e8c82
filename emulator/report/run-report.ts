/**
 * What a run has to say, as plain data: the document that `run --json` prints and that people read as text.
 *
 * Source: CLI ("run"). Counters come from the payload's own telemetry pages beside the machine's ground truth.
 * Invariant: `result` is "pass" only when the scenario was taken to its end and every invariant held, or broke in the ways
 * that the scenario is there to show and in no other.
 */
import { hex } from '../../abi/uint.js';
import type { Conductor, ConductorError, Gap } from '../machine/conductor.js';
import type { Lane } from '../machine/lane.js';
import { expectedFindings, unexpectedFindings } from '../machine/scenario/expectations.js';
import type { Machine } from '../machine/machine.js';
import { remainsOf } from '../machine/remains.js';
import type { InvariantResult } from '../machine/ledger.js';
import type { Phase, TimelineEvent } from '../machine/timeline.js';
import type { Finding } from '../vmx/stop-reason.js';
import { STACK_BYTES } from '../host/kvm/vcpu-memory.js';
import { payloadSymbols, type PayloadSymbols } from './payload-symbols.js';
import { telemetryReport, type OutcomeCounts, type TelemetryReport } from './telemetry-report.js';

/** One vCPU at the end of a run. */
export interface VcpuReport {
  readonly id: number;
  /** The core that runs it. */
  readonly pcpu: number;
  readonly exits: OutcomeCounts & { readonly total: number };
  /** What the payload says of itself: RUNNING, SPINNING, SERIALIZED, PARKED. */
  readonly payloadState: string;
  /** Deepest use of the payload's stack, and its size. */
  readonly stack: { readonly usedBytes: number; readonly sizeBytes: number };
  readonly telemetry: TelemetryReport;
}

/** A broken invariant, with the payload's symbol where the address lies in an instance of it. */
export interface FindingReport {
  readonly invariant: string;
  readonly message: string;
  readonly address: string;
  readonly symbol: string | null;
  readonly details: Finding['details'];
}

/** A finding that the scenario is there to show. */
export interface ExpectedFinding {
  readonly invariant: string;
  /** What its message must contain. */
  readonly says: string;
  readonly came: boolean;
}

/** The whole document. */
export interface RunReport {
  readonly result: 'pass' | 'fail';
  readonly scenario: string;
  readonly description: string;
  readonly seed: number;
  readonly payload: { readonly sha256: string };
  readonly tscFrequencyHz: number;
  readonly tscEnd: number;
  readonly phases: readonly Phase[];
  readonly vcpus: readonly VcpuReport[];
  /** The most telling events, and how many there were. */
  readonly timeline: readonly TimelineEvent[];
  readonly eventCount: number;
  readonly invariants: readonly InvariantResult[];
  /** Evaluations, over all invariants. */
  readonly checks: number;
  readonly findings: readonly FindingReport[];
  readonly expected: readonly ExpectedFinding[];
  readonly gap: Gap | null;
  readonly evidence: Readonly<Record<string, number>>;
  /** The step that the host refused, when the scenario could not be taken to its end. */
  readonly stopped: { readonly code: string; readonly message: string } | null;
}

/** What a report needs beside the machine. */
export interface RunSettings {
  readonly payload: Uint8Array;
  readonly payloadSha256: string;
  /** What ended the run early, if anything did. */
  readonly stopped: ConductorError | null;
  /** How many events are kept. */
  readonly timelineLength: number;
}

/** Reports on a run. */
export function runReport(conductor: Conductor, settings: RunSettings): RunReport {
  const { machine, scenario, gap } = conductor;
  const { stopped } = settings;
  const symbols = payloadSymbols(settings.payload, machine.lanes);
  const { findings } = machine.ledger;
  const expected = expectedFindings(scenario, findings);
  const isAsExpected =
    expected.every(({ came }) => came) && unexpectedFindings(scenario, findings).length === 0;
  return {
    result: stopped === null && isAsExpected ? 'pass' : 'fail',
    scenario: scenario.name,
    description: scenario.description.trim(),
    seed: scenario.seed,
    payload: { sha256: settings.payloadSha256 },
    tscFrequencyHz: machine.tscFrequencyHz,
    tscEnd: machine.now(),
    phases: machine.timeline.phases(machine.now()),
    vcpus: machine.lanes.map(vcpuReport),
    timeline: machine.timeline.mostTelling(settings.timelineLength),
    eventCount: machine.timeline.eventCount,
    invariants: machine.ledger.results(),
    checks: machine.ledger.totalChecked,
    findings: findings.map((finding) => findingReport(finding, symbols)),
    expected,
    gap,
    evidence: evidenceOf(machine),
    stopped: stopped === null ? null : { code: stopped.code, message: stopped.message },
  };
}

/** What the machine counted, and the returns that the engines held against a shadow stack. */
function evidenceOf({ evidence, cores }: Machine): Readonly<Record<string, number>> {
  const returnsHeld = cores.reduce((sum, { engine }) => sum + engine.counters.heldReturns, 0);
  return returnsHeld === 0 ? evidence : { ...evidence, returnsHeld };
}

function findingReport(finding: Finding, symbols: PayloadSymbols): FindingReport {
  const { invariant, message, address, details } = finding;
  return { invariant, message, address: hex(address), symbol: symbols(address), details };
}

function vcpuReport(lane: Lane): VcpuReport {
  const { truth, id, pcpu } = lane;
  const { telemetry, payloadState, stackBytesUsed } = remainsOf(lane);
  return {
    id,
    pcpu: pcpu.id,
    exits: {
      total: truth.exits,
      fastpath: truth.total('fastpath'),
      routed: truth.total('routed'),
      blocked: truth.total('blocked'),
    },
    payloadState,
    stack: { usedBytes: stackBytesUsed, sizeBytes: STACK_BYTES },
    telemetry: telemetryReport(telemetry),
  };
}
