/** A trace as a viewer reads it: an array of events, slices that nest, flows with both ends. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { referencePayload } from '../../emulator/cli/payload-file.js';
import { Conductor } from '../../emulator/machine/conductor.js';
import { loadScenario } from '../../emulator/machine/scenario/load.js';
import { traceFile, type TraceEvent } from '../../emulator/report/trace-file.js';

const scenario = loadScenario(new URL('../golden/moment.yaml', import.meta.url).pathname);
const conductor = new Conductor(scenario, new Uint8Array(readFileSync(referencePayload())), true);
conductor.run();
const text = traceFile(conductor, 'abc');
const trace = JSON.parse(text) as TraceEvent[];
const slices = trace.filter(({ ph }) => ph === 'X');
const threads = [...new Set(trace.map(({ pid, tid }) => `${pid} ${tid}`))];

describe('a trace file', () => {
  it('says on its first line what the run depends on', () => {
    expect(JSON.parse(text.split('\n', 1)[0]!.slice(1, -1))).toMatchObject({
      args: { payloadSha256: 'abc', scenario: 'moment', seed: 5 },
    });
  });

  it('has times and durations from 0 up, in microseconds', () => {
    const timed = trace.filter(({ ph }) => ph !== 'M');
    expect(timed.every(({ ts = -1 }) => ts >= 0)).toBe(true);
    expect(slices.every(({ dur = -1 }) => dur >= 0)).toBe(true);
    const end = Math.max(...slices.map(({ ts = 0, dur = 0 }) => ts + dur));
    expect(end / 1e6).toBeCloseTo(conductor.machine.now() / conductor.machine.tscFrequencyHz, 2);
  });

  it.each(threads)('has slices on thread %s that follow each other', (thread) => {
    const own = slices
      .filter(({ pid, tid }) => `${pid} ${tid}` === thread)
      .sort((a, b) => (a.ts! === b.ts! ? a.dur! - b.dur! : a.ts! - b.ts!));
    const overlapping = own.filter(
      (slice, n) => n > 0 && own[n - 1]!.ts! + own[n - 1]!.dur! > slice.ts! + 1e-3,
    );
    expect(overlapping).toEqual([]);
  });

  it('names every process and thread that has events', () => {
    const named = trace.filter(({ name }) => name === 'thread_name').map(({ tid }) => tid);
    expect(slices.filter(({ tid }) => !named.includes(tid))).toEqual([]);
  });

  it('draws the stall, and a flow from it to the phase in which KVM took the exit', () => {
    const stall = slices.find(({ cat }) => cat === 'stall')!;
    const [from, to] = (['s', 'f'] as const).map((ph) => trace.find((event) => event.ph === ph)!);
    expect(stall.args).toEqual({ reason: 'EPT_VIOLATION', released: 'yes' });
    expect(stall.dur! / 1e6).toBeCloseTo(0.4, 3);
    expect(from).toMatchObject({ ts: stall.ts, pid: stall.pid, tid: stall.tid, id: to!.id });
    const phase = slices.find(
      ({ cat, ts, dur }) => cat === 'phase' && ts! <= to!.ts! && to!.ts! <= ts! + dur!,
    );
    expect(phase).toBeDefined();
  });

  it('says of every exit what became of it, and counts them by vCPU', () => {
    const exits = slices.filter(({ cat }) => cat === 'exit');
    expect(
      exits.every(({ args }) =>
        ['fastpath', 'routed', 'blocked'].includes(String(args!['outcome'])),
      ),
    ).toBe(true);
    const own = exits.filter(({ tid }) => tid === 100).map(({ args }) => args!['sequence']);
    expect(own).toEqual(own.map((_, index) => index + 1));
  });
});
