/**
 * The ruler under the lanes: where phases meet, and round seconds between.
 *
 * Invariant: labels never touch each other; where two do not fit, the one at a border wins, then the earlier.
 */
import type { Stretch, TimeAxis } from '../../../report/time-axis.js';
import type { Glyphs } from './glyphs.js';
import { seconds } from './units.js';

/** Columns between two round seconds, at least. */
const TICK_DISTANCE = 8;

interface Mark {
  readonly position: number;
  readonly label: string;
}

/**
 * The line and its labels; `positionOf` is the place of a column on the line, which has a border character between two
 * stretches and one at each end.
 */
export function ruler(
  axis: TimeAxis,
  tscFrequencyHz: number,
  positionOf: (column: number) => number,
  glyphs: Glyphs,
): readonly string[] {
  const borders = bordersOf(axis, tscFrequencyHz, positionOf);
  const length = borders.at(-1)!.position + 1;
  const ticks = axis.stretches.flatMap((stretch) =>
    ticksIn(stretch, tscFrequencyHz, (tsc) => positionOf(axis.columnOf(tsc))),
  );
  const { first, last, border, line, tick } = glyphs.ruler;
  const drawn = Array.from({ length }, () => line);
  for (const { position } of ticks) drawn[position] = tick;
  borders.forEach(({ position }, index) => {
    drawn[position] = index === 0 ? first : index === borders.length - 1 ? last : border;
  });
  return [drawn.join(''), labelsOf([...borders, ...ticks], length)];
}

function bordersOf(
  { stretches, columns }: TimeAxis,
  hz: number,
  positionOf: (column: number) => number,
): readonly Mark[] {
  const starts = stretches.map(({ column, tscStart }) => ({
    position: positionOf(column) - 1,
    label: tscStart === 0 ? '0' : seconds(tscStart, hz),
  }));
  const end = {
    position: positionOf(columns - 1) + 1,
    label: `${seconds(stretches.at(-1)!.tscEnd, hz)} s`,
  };
  return [...starts, end];
}

function ticksIn(
  { tscStart, tscEnd, columns }: Stretch,
  hz: number,
  positionOf: (tsc: number) => number,
): readonly Mark[] {
  const least = (((tscEnd - tscStart) / hz) * TICK_DISTANCE) / columns;
  const power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].map((n) => n * power).find((one) => one >= least) ?? least;
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const ticks: Mark[] = [];
  for (let n = Math.floor(tscStart / hz / step) + 1; n * step * hz < tscEnd; n++) {
    ticks.push({ position: positionOf(n * step * hz), label: (n * step).toFixed(digits) });
  }
  return ticks;
}

/** Each label is centred under its mark, or as near as the ends of the line allow. */
function labelsOf(marks: readonly Mark[], length: number): string {
  const line = Array.from({ length }, () => ' ');
  for (const { position, label } of marks) {
    const centred = position - Math.floor(label.length / 2);
    const start = Math.min(length - label.length, Math.max(0, centred));
    const around = line.slice(Math.max(0, start - 1), start + label.length + 1);
    if (around.some((character) => character !== ' ')) continue;
    line.splice(start, label.length, ...Array.from(label));
  }
  return line.join('').trimEnd();
}
