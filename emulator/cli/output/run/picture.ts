/**
 * The picture of a run: phases above, a lane a vCPU, the ruler in seconds of virtual time, and what the signs mean.
 *
 * Invariant: no line is wider than the terminal; without colour every sign is still told from every other.
 */
import { stripVTControlCharacters } from 'node:util';
import type { Cell, LaneCells } from '../../../report/lane-cells.js';
import { LEVELS } from '../../../report/lane-cells.js';
import type { TimeAxis } from '../../../report/time-axis.js';
import type { Phase, PhaseName } from '../../../machine/timeline.js';
import type { Terminal } from '../terminal.js';
import { glyphsOf, type Glyphs } from './glyphs.js';
import { ruler } from './ruler.js';
import { duration, grouped, seconds } from './units.js';

/** What is drawn. */
export interface Picture {
  readonly axis: TimeAxis;
  readonly cells: LaneCells;
  /** Times of the host's most telling events. */
  readonly hostEvents: readonly number[];
  readonly tscFrequencyHz: number;
}

/** Names of a phase, the longest first; what fits is written. */
const PHASES: Readonly<Record<PhaseName, readonly string[]>> = {
  attached: ['attached', 'att.'],
  detached: ['same kernel', 'same'],
  'no-kernel': ['old kernel gone', 'no kernel', 'none'],
  'next-kernel': ['next kernel up', 'next'],
};

/** Columns of the names on the left. */
export const labelWidth = (vcpus: readonly number[]): number =>
  `vCPU ${Math.max(...vcpus)}`.length + 1;

/** Columns that are left for lanes: names, a border at each end, and one between two stretches. */
export const laneColumns = (columns: number, vcpus: readonly number[], stretches: number): number =>
  columns - labelWidth(vcpus) - 1 - stretches;

/** Draws it. */
export function pictureText(picture: Picture, terminal: Terminal): string {
  const { axis, cells, tscFrequencyHz } = picture;
  const glyphs = glyphsOf(terminal);
  const vcpus = [...cells.lanes.keys()];
  const width = labelWidth(vcpus);
  const { stretches } = axis;
  const positionOf = (column: number): number =>
    column + 1 + stretches.filter((one) => one.column > 0 && one.column <= column).length;
  const line = (label: string, parts: readonly string[]): string => {
    const { border } = glyphs;
    const name = terminal.style('bold', label) + ' '.repeat(width - label.length);
    return name + dim(border) + parts.join(dim(border)) + dim(border);
  };
  const dim = (text: string): string => terminal.style('dim', text);
  const parts = (row: readonly string[]): string[] =>
    stretches.map(({ column, columns }) => row.slice(column, column + columns).join(''));
  const host = Array.from({ length: axis.columns }, () => ' ');
  for (const tsc of picture.hostEvents)
    host[axis.columnOf(tsc)] = terminal.style('cyan', glyphs.event);
  const lanes = vcpus.map((id) => {
    const row = cells.lanes.get(id)!.map((cell) => cellText(cell, glyphs, terminal));
    return line(`vCPU ${id}`, parts(row));
  });
  const rulerLines = ruler(axis, tscFrequencyHz, positionOf, glyphs);
  return [
    ...phaseLines(picture, glyphs).map((row) => line('', row)),
    line('host', parts(host)),
    ...lanes,
    ...rulerLines.map((row) => ' '.repeat(width) + dim(row)),
    '',
    ...legend(picture, glyphs, terminal),
  ]
    .map((row) => row.trimEnd())
    .join('\n');
}

/** The names of the phases, and below a gap's those of its parts. */
function phaseLines(
  { axis, tscFrequencyHz }: Picture,
  glyphs: Glyphs,
): readonly (readonly string[])[] {
  const isParted = axis.stretches.some(({ isGap }) => isGap);
  const names = axis.stretches.map(({ isGap, phases, columns, tscStart, tscEnd }) => {
    const length = `${seconds(tscEnd - tscStart, tscFrequencyHz)} s`;
    const gap = [`gap of ${length}: KVM_DETACHED`, `gap of ${length}`, length, 'gap'];
    return fitted(' ', isGap ? gap : PHASES[phases[0]!.name], columns);
  });
  if (!isParted) return [names];
  const inside = axis.stretches.map(({ isGap, phases, column, columns }) => {
    if (!isGap) return ' '.repeat(columns);
    const end = (phase: Phase, index: number): number =>
      index === phases.length - 1 ? column + columns : axis.columnOf(phase.tscEnd);
    return phases
      .map((phase, index) => {
        const start = index === 0 ? column : axis.columnOf(phase.tscStart);
        const before = index === 0 ? ' ' : `${glyphs.border} `;
        return fitted(before, PHASES[phase.name], Math.max(0, end(phase, index) - start));
      })
      .join('');
  });
  return [names, inside];
}

/** The first of `names` that fits behind `before`, filled up to the width. */
function fitted(before: string, names: readonly string[], width: number): string {
  const name = names.find((one) => before.length + one.length <= width) ?? '';
  return (before + name).slice(0, width).padEnd(width);
}

function cellText(cell: Cell, glyphs: Glyphs, terminal: Terminal): string {
  switch (cell.kind) {
    case 'quiet':
      return terminal.style('dim', glyphs.quiet);
    case 'alone':
      return terminal.style('green', pick(glyphs.alone, cell.level));
    case 'with-kvm':
      return terminal.style('cyan', pick(glyphs.withKvm, cell.level));
    case 'blocked':
      return terminal.style('red', glyphs.blocked);
    case 'waiting':
      return terminal.style('yellow', glyphs.waiting);
  }
}

/** The glyph for a level, where a set has fewer glyphs than there are levels. */
function pick(glyphs: readonly string[], level: number): string {
  return glyphs[Math.ceil((level * glyphs.length) / LEVELS) - 1]!;
}

function legend(
  { axis, cells, tscFrequencyHz }: Picture,
  glyphs: Glyphs,
  terminal: Terminal,
): string[] {
  const all = [...cells.lanes.values()].flat();
  const has = (kind: Cell['kind']): boolean => all.some((cell) => cell.kind === kind);
  const highest = `${grouped(Math.round(cells.highestPerSecond))}/s`;
  const [alone, withKvm] = [glyphs.alone, glyphs.withKvm].map((set) => set.join(''));
  const signs: readonly (readonly [Cell['kind'], string])[] = [
    ['alone', `${terminal.style('green', alone!)} the Caretaker answered all exits`],
    ['with-kvm', `${terminal.style('cyan', withKvm!)} KVM got some`],
    ['blocked', `${terminal.style('red', glyphs.blocked)} an exit blocks`],
    ['waiting', `${terminal.style('yellow', glyphs.waiting)} waits for KVM`],
    ['quiet', `${glyphs.quiet} no exit`],
  ];
  const scales = axis.stretches.map(({ column }) => duration(axis.ticksOf(column), tscFrequencyHz));
  const notes = [
    ...signs.filter(([kind]) => has(kind)).map(([, text]) => text),
    `most: ${highest}, a step less is half`,
    `a column is ${scales.join(', ')}`,
  ];
  return wrapped(notes, terminal.columns);
}

/** Notes side by side, as many as a line takes. */
function wrapped(notes: readonly string[], columns: number): string[] {
  const lines: { text: string; length: number }[] = [];
  for (const note of notes) {
    const length = visibleLength(note);
    const last = lines.at(-1);
    if (last !== undefined && last.length + 3 + length <= columns) {
      last.text += `   ${note}`;
      last.length += 3 + length;
    } else lines.push({ text: note, length });
  }
  return lines.map(({ text }) => text);
}

function visibleLength(text: string): number {
  return stripVTControlCharacters(text).length;
}
