/**
 * What a vCPU did in each column of the time axis: how often it exited, who answered, and when it waited for KVM.
 *
 * Invariant: a column in which an exit blocked says so, whatever else happened in it; levels are comparable between
 * columns of different scales, because they are of exits a second.
 */
import type { ExitSlice } from '../machine/timeline.js';
import type { TimeAxis } from './time-axis.js';
import type { Wait } from './waits.js';

/** Steps of density; each is half of the next. */
export const LEVELS = 8;

/** One column of one lane; `level` is from 1 to LEVELS. */
export type Cell =
  /** No exit happened. */
  | { readonly kind: 'quiet' }
  /** The Caretaker answered every exit. */
  | { readonly kind: 'alone'; readonly level: number }
  /** KVM got some of them. */
  | { readonly kind: 'with-kvm'; readonly level: number }
  /** An exit blocked here. */
  | { readonly kind: 'blocked' }
  /** The vCPU waits for KVM. */
  | { readonly kind: 'waiting' };

/** All lanes and the rate that the highest level stands for. */
export interface LaneCells {
  readonly lanes: ReadonlyMap<number, readonly Cell[]>;
  readonly highestPerSecond: number;
}

interface Counts {
  readonly alone: Float64Array;
  readonly kvm: Float64Array;
  readonly blocked: Uint8Array;
  readonly waiting: Uint8Array;
}

/** Draws every lane of `vcpus`. */
export function laneCells(
  axis: TimeAxis,
  run: {
    readonly vcpus: readonly number[];
    readonly slices: readonly ExitSlice[];
    readonly waits: readonly Wait[];
    readonly tscFrequencyHz: number;
  },
): LaneCells {
  const counts = new Map(run.vcpus.map((id) => [id, emptyCounts(axis.columns)]));
  for (const { vcpu, outcome, tscBegin } of run.slices) {
    const row = counts.get(vcpu)!;
    const column = axis.columnOf(tscBegin);
    if (outcome === 'blocked') row.blocked[column] = 1;
    else (outcome === 'fastpath' ? row.alone : row.kvm)[column]!++;
  }
  for (const { vcpu, tscBegin, tscEnd } of run.waits) {
    const [from, to] = [axis.columnOf(tscBegin), axis.columnOf(tscEnd)];
    // The column of the release is left to what came after it.
    counts.get(vcpu)!.waiting.fill(1, from, Math.max(from + 1, to));
  }
  const perSecond = (row: Counts, column: number): number =>
    ((row.alone[column]! + row.kvm[column]!) * run.tscFrequencyHz) / axis.ticksOf(column);
  let highest = 0;
  for (const row of counts.values()) {
    for (let column = 0; column < axis.columns; column++) {
      highest = Math.max(highest, perSecond(row, column));
    }
  }
  const cell = (row: Counts, column: number): Cell => {
    if (row.blocked[column] === 1) return { kind: 'blocked' };
    if (row.waiting[column] === 1) return { kind: 'waiting' };
    const rate = perSecond(row, column);
    if (rate === 0) return { kind: 'quiet' };
    const level = Math.max(1, LEVELS - Math.floor(Math.log2(highest / rate)));
    return { kind: row.kvm[column] === 0 ? 'alone' : 'with-kvm', level };
  };
  const lanes = [...counts].map(
    ([id, row]) =>
      [id, Array.from({ length: axis.columns }, (_, column) => cell(row, column))] as const,
  );
  return { lanes: new Map(lanes), highestPerSecond: highest };
}

function emptyCounts(columns: number): Counts {
  return {
    alone: new Float64Array(columns),
    kvm: new Float64Array(columns),
    blocked: new Uint8Array(columns),
    waiting: new Uint8Array(columns),
  };
}
