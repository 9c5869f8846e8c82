/**
 * A run as a trace viewer draws it: one track a vCPU, one slice an exit, the host's events between.
 *
 * Source: the Chrome trace event format, as Perfetto and chrome://tracing read it; times are microseconds.
 * Invariant: the first line has the image's hash, the scenario and the seed, which are all that a run depends on.
 */
import { createHash } from 'node:crypto';
import type { Conductor } from '../machine/conductor.js';

/** Every event that a machine keeps. */
const ALL = Number.MAX_SAFE_INTEGER;
const PROCESS = 1;
/** The host's track lies above those of the vCPUs. */
const HOST_TRACK = 0;
const trackOf = (vcpu: number | null): number => (vcpu === null ? HOST_TRACK : vcpu + 1);

/** The text of a trace file; the machine must have been made with `wantsSlices`. */
export function traceFile({ machine, scenario }: Conductor, payload: Uint8Array): string {
  const image = createHash('sha256').update(payload).digest('hex');
  const microseconds = (tsc: number): number => (tsc * 1e6) / machine.tscFrequencyHz;
  const origin = { image, scenario: scenario.name, seed: scenario.seed };
  const tracks = [null, ...machine.lanes.map(({ id }) => id)].map((vcpu) => ({
    ph: 'M',
    name: 'thread_name',
    pid: PROCESS,
    tid: trackOf(vcpu),
    args: { name: vcpu === null ? 'host' : `vCPU ${vcpu}` },
  }));
  const instants = machine.timeline.mostTelling(ALL).map(({ tsc, vcpu, event }) => ({
    ph: 'i',
    s: 't',
    name: event,
    pid: PROCESS,
    tid: trackOf(vcpu),
    ts: microseconds(tsc),
  }));
  const slices = machine.timeline.slices.map((slice) => ({
    ph: 'X',
    name: slice.name,
    cat: slice.outcome,
    pid: PROCESS,
    tid: trackOf(slice.vcpu),
    ts: microseconds(slice.tscBegin),
    dur: microseconds(slice.tscEnd - slice.tscBegin),
    args: { sequence: slice.sequence, tsc: slice.tscBegin },
  }));
  const events = [...tracks, ...instants, ...slices].map((event) => JSON.stringify(event));
  return `{"otherData":${JSON.stringify(origin)},"traceEvents":[\n${events.join(',\n')}\n]}\n`;
}
