/** Time on columns, and what a lane says in each of them. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Phase } from '../../emulator/machine/timeline.js';
import { laneCells } from '../../emulator/report/lane-cells.js';
import { timeAxis } from '../../emulator/report/time-axis.js';

const PHASES: readonly Phase[] = [
  { name: 'attached', tscStart: 0, tscEnd: 1000 },
  { name: 'no-kernel', tscStart: 1000, tscEnd: 11_000 },
  { name: 'next-kernel', tscStart: 11_000, tscEnd: 31_000 },
  { name: 'attached', tscStart: 31_000, tscEnd: 32_000 },
];
const axis = timeAxis(PHASES, 70);
const slice = (outcome: string, tscBegin: number) => {
  return { vcpu: 0, name: 'HLT', outcome, tscBegin, tscEnd: tscBegin + 1, sequence: 1 };
};
const lane = (
  slices: readonly ReturnType<typeof slice>[],
  waits: readonly (readonly [number, number])[] = [],
) =>
  laneCells(axis, {
    vcpus: [0],
    slices,
    waits: waits.map(([tscBegin, tscEnd]) => {
      return { vcpu: 0, reason: 'HLT', tscBegin, tscEnd, isReleased: true };
    }),
    tscFrequencyHz: 1000,
  }).lanes.get(0)!;

describe('the time axis', () => {
  it('gives each stretch with KVM columns to be read in, and one scale to the gap', () => {
    expect(axis.stretches.map(({ isGap, columns }) => ({ isGap, columns }))).toEqual([
      { isGap: false, columns: 10 },
      { isGap: true, columns: 50 },
      { isGap: false, columns: 10 },
    ]);
  });

  it('uses every column, in order of time, whatever the phases', () => {
    const lengths = fc.array(fc.integer({ min: 1, max: 1e9 }), { minLength: 1, maxLength: 14 });
    fc.assert(
      fc.property(lengths, fc.integer({ min: 40, max: 200 }), (durations, columns) => {
        let tsc = 0;
        const phases = durations.map((ticks, n): Phase => {
          tsc += ticks;
          return {
            name: n % 2 === 0 ? 'attached' : 'detached',
            tscStart: tsc - ticks,
            tscEnd: tsc,
          };
        });
        const drawn = timeAxis(phases, columns);
        expect(drawn.stretches.reduce((sum, one) => sum + one.columns, 0)).toBe(columns);
        expect(drawn.stretches.every((one) => one.columns > 0)).toBe(true);
        const at = Array.from({ length: 100 }, (_, n) => drawn.columnOf((tsc * n) / 99));
        expect(at.every((column, n) => n === 0 || column >= at[n - 1]!)).toBe(true);
        expect([at[0], at.at(-1)]).toEqual([0, columns - 1]);
      }),
    );
  });
});

describe('a lane', () => {
  it('tells who answered the exits of a column', () => {
    const cells = lane([
      slice('fastpath', 50),
      slice('fastpath', 150),
      slice('routed', 151),
      slice('kvm', 250),
    ]);
    expect(cells.slice(0, 4).map(({ kind }) => kind)).toEqual([
      'alone',
      'with-kvm',
      'with-kvm',
      'quiet',
    ]);
  });

  it('halves the rate with each level', () => {
    const cells = lane([0, 1, 2, 3, 110, 111, 220].map((tsc) => slice('fastpath', tsc)));
    expect(cells.slice(0, 3)).toEqual([8, 7, 6].map((level) => ({ kind: 'alone', level })));
  });

  it('shows an exit that blocks, and the wait until the column of its release', () => {
    const cells = lane([slice('blocked', 21_050), slice('routed', 31_010)], [[21_060, 31_005]]);
    expect(cells.findIndex(({ kind }) => kind === 'blocked')).toBe(axis.columnOf(21_050));
    const waiting = cells.flatMap(({ kind }, column) => (kind === 'waiting' ? [column] : []));
    expect(waiting[0]).toBe(axis.columnOf(21_050) + 1);
    expect(waiting.at(-1)).toBe(axis.columnOf(30_999));
    expect(cells[axis.columnOf(31_005)]!.kind).toBe('with-kvm');
  });
});
