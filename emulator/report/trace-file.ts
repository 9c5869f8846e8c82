/**
 * A run as a trace viewer draws it: a process for the host and one for the VM, a thread a vCPU, a slice an exit.
 *
 * Source: the Chrome trace event format, JSON array form, as Perfetto and chrome://tracing read it; times are
 * microseconds of virtual time.
 * Invariant: the first line has the payload's hash, the scenario and the seed, which are all that a run depends on;
 * slices of one thread nest. A flow leads from an exit that blocked to the phase in which KVM took it.
 */
import type { Conductor } from '../machine/conductor.js';
import type { ExitSlice, Phase } from '../machine/timeline.js';
import { waitsOf, type Wait } from './waits.js';

/** One event of the format. */
export interface TraceEvent {
  readonly ph: 'M' | 'X' | 'i' | 's' | 'f';
  readonly name: string;
  readonly pid: number;
  readonly tid: number;
  readonly ts?: number;
  readonly dur?: number;
  readonly cat?: string;
  readonly id?: number;
  readonly bp?: 'e';
  readonly s?: 't';
  readonly args?: Readonly<Record<string, string | number>>;
}

const HOST = { pid: 1, tid: 1 } as const;
const VM = 2;
/** Viewers tell threads of two processes apart only when their ids differ. */
const threadOf = (vcpu: number): { pid: number; tid: number } => ({ pid: VM, tid: 100 + vcpu });
const placeOf = (vcpu: number | null): { pid: number; tid: number } =>
  vcpu === null ? HOST : threadOf(vcpu);

/** The text of a trace file; the machine must have been made with `wantsSlices`. */
export function traceFile(conductor: Conductor, payloadSha256: string): string {
  const events = traceEvents(conductor, payloadSha256).map((event) => JSON.stringify(event));
  return `[${events.join(',\n')}]\n`;
}

/** The events of a trace: what the run depends on, names, phases, exits, waits, events. */
export function traceEvents(conductor: Conductor, payloadSha256: string): readonly TraceEvent[] {
  const { machine, scenario } = conductor;
  const us = (tsc: number): number => (tsc * 1e6) / machine.tscFrequencyHz;
  const origin = { payloadSha256, scenario: scenario.name, seed: scenario.seed };
  const phases = machine.timeline.phases(machine.now());
  const waits = waitsOf(machine);
  return [
    { ph: 'M', name: 'caretaker_run', ...HOST, args: origin },
    ...named('process_name', HOST, 'host'),
    ...named('thread_name', HOST, 'kernel and VMM'),
    ...named('process_name', { pid: VM, tid: 0 }, 'VM vm-0'),
    ...machine.lanes.flatMap(({ id }) => named('thread_name', threadOf(id), `vCPU ${id}`)),
    ...phases.map((phase) => phaseSlice(phase, us)),
    ...machine.timeline.slices.map((slice) => exitSlice(slice, us)),
    ...waits.flatMap((wait, id) => waitSlices(wait, { id, phases, us })),
    ...machine.timeline
      .mostTelling(machine.timeline.eventCount)
      .map(({ tsc, vcpu, event }): TraceEvent => ({
        ...{ ph: 'i', s: 't', name: event, cat: 'event', ts: us(tsc) },
        ...placeOf(vcpu),
      })),
  ];
}

type Microseconds = (tsc: number) => number;

function named(
  what: 'process_name' | 'thread_name',
  place: { readonly pid: number; readonly tid: number },
  name: string,
): readonly TraceEvent[] {
  return [{ ph: 'M', name: what, ...place, args: { name } }];
}

function phaseSlice({ name, tscStart, tscEnd }: Phase, us: Microseconds): TraceEvent {
  return { ph: 'X', name, cat: 'phase', ...HOST, ts: us(tscStart), dur: us(tscEnd - tscStart) };
}

function exitSlice(slice: ExitSlice, us: Microseconds): TraceEvent {
  const { vcpu, name, outcome, sequence, tscBegin, tscEnd } = slice;
  return {
    ...{ ph: 'X', name, cat: 'exit', ...threadOf(vcpu) },
    ts: us(tscBegin),
    dur: us(tscEnd - tscBegin),
    args: { outcome, sequence, tsc: tscBegin },
  };
}

/** The wait itself, and the flow to the phase in which it ended. */
function waitSlices(
  wait: Wait,
  context: { readonly id: number; readonly phases: readonly Phase[]; readonly us: Microseconds },
): readonly TraceEvent[] {
  const { id, phases, us } = context;
  const { vcpu, reason, tscBegin, tscEnd } = wait;
  const place = threadOf(vcpu);
  const slice: TraceEvent = {
    ...{ ph: 'X', name: 'waits for KVM', cat: 'stall', ...place },
    ts: us(tscBegin),
    dur: us(tscEnd - tscBegin),
    args: { reason, released: wait.isReleased ? 'yes' : 'no' },
  };
  const phase = phases.findLast((one) => one.tscStart <= tscEnd && tscEnd <= one.tscEnd);
  if (!wait.isReleased || phase === undefined) return [slice];
  const flow = { name: 'blocked', cat: 'stall', id };
  return [
    slice,
    { ph: 's', ...flow, ...place, ts: us(tscBegin) },
    { ph: 'f', bp: 'e', ...flow, ...HOST, ts: us(Math.max(tscEnd, phase.tscStart)) },
  ];
}
