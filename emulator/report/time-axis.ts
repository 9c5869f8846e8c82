/**
 * Virtual time on the columns of a terminal: a scale of its own for each stretch with KVM and for each gap.
 *
 * A gap of half a minute lies between two moments of attached running; on one scale those would vanish. So the stretches
 * in which KVM is there get a fixed share of the width, and the ruler says where the scale changes.
 * Invariant: columns are in order of time, every tick of the run lies in exactly one, and none has no duration.
 */
import type { Phase } from '../machine/timeline.js';

/** The part of the width that all stretches with KVM share when there is a gap too. */
const ATTACHED_SHARE = 0.3;
/** Columns that a stretch needs for its name; it gets them unless gaps would be left with less than half. */
const READABLE = 10;
/** More stretches than this are drawn on one scale. */
const MOST_STRETCHES = 9;

/** Neighbouring phases on one scale. */
export interface Stretch {
  readonly isGap: boolean;
  readonly phases: readonly Phase[];
  readonly tscStart: number;
  readonly tscEnd: number;
  /** Its first column and how many it has. */
  readonly column: number;
  readonly columns: number;
}

/** All stretches, and where a time lies. */
export interface TimeAxis {
  readonly stretches: readonly Stretch[];
  readonly columns: number;
  /** The column of a time, clamped to the axis. */
  columnOf(tsc: number): number;
  /** Ticks that one column stands for. */
  ticksOf(column: number): number;
}

/** Lays `phases` out on `columns` columns. */
export function timeAxis(phases: readonly Phase[], columns: number): TimeAxis {
  const groups = groupsOf(phases);
  const widths = widthsOf(groups, columns);
  let column = 0;
  const stretches = groups.map((group, index): Stretch => {
    const width = widths[index]!;
    column += width;
    const [first, last] = [group[0]!, group.at(-1)!];
    return {
      isGap: groups.length > 1 && isGap(first),
      phases: group,
      tscStart: first.tscStart,
      tscEnd: last.tscEnd,
      column: column - width,
      columns: width,
    };
  });
  const stretchAt = (at: number): Stretch =>
    stretches.find((one) => at < one.column + one.columns) ?? stretches.at(-1)!;
  return {
    stretches,
    columns,
    columnOf: (tsc) => {
      const stretch = stretches.find((one) => tsc < one.tscEnd) ?? stretches.at(-1)!;
      const part = (tsc - stretch.tscStart) / (stretch.tscEnd - stretch.tscStart);
      const inside = Math.floor(part * stretch.columns);
      return stretch.column + Math.min(stretch.columns - 1, Math.max(0, inside));
    },
    ticksOf: (at) => {
      const { tscStart, tscEnd, columns: width } = stretchAt(at);
      return (tscEnd - tscStart) / width;
    },
  };
}

const isGap = ({ name }: Phase): boolean => name !== 'attached';

function groupsOf(phases: readonly Phase[]): readonly (readonly Phase[])[] {
  const groups: Phase[][] = [];
  for (const phase of phases) {
    const group = groups.at(-1);
    if (group !== undefined && isGap(group[0]!) === isGap(phase)) group.push(phase);
    else groups.push([phase]);
  }
  return groups.length > MOST_STRETCHES ? [[...phases]] : groups;
}

function widthsOf(groups: readonly (readonly Phase[])[], columns: number): readonly number[] {
  if (groups.length === 1) return [columns];
  const seconds = (group: readonly Phase[]): number => group.at(-1)!.tscEnd - group[0]!.tscStart;
  const gaps = groups.filter((group) => isGap(group[0]!));
  const attachedCount = groups.length - gaps.length;
  const attached = Math.max(
    Math.floor((columns * ATTACHED_SHARE) / Math.max(2, attachedCount)),
    Math.min(READABLE, Math.floor(columns / 2 / attachedCount)),
  );
  const allGaps = gaps.reduce((sum, group) => sum + seconds(group), 0);
  const left = columns - attached * attachedCount;
  const widths = groups.map((group) =>
    isGap(group[0]!) ? Math.max(1, Math.floor((left * seconds(group)) / allGaps)) : attached,
  );
  // What rounding left over goes to the longest.
  const longest = widths.indexOf(Math.max(...widths));
  const rest = columns - widths.reduce((sum, width) => sum + width, 0);
  return widths.map((width, index) => (index === longest ? width + rest : width));
}
