/**
 * Plain columns for people: no borders, two spaces apart, the last column wrapped to the width that there is.
 *
 * Invariant: no line ends in spaces, so that transcripts can be compared.
 */
import { stripVTControlCharacters } from 'node:util';
import Table from 'cli-table3';

const GAP = 2;
const NARROWEST = 20;
const BORDERS = [
  ...['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left'],
  ...['bottom-right', 'left', 'left-mid', 'mid', 'mid-mid', 'right', 'right-mid', 'middle'],
] as const;
const NO_BORDERS = Object.fromEntries(BORDERS.map((border) => [border, '']));

/** Lays rows out in columns; `right` lists the columns that hold numbers. */
export function columnsOf(
  rows: readonly (readonly string[])[],
  totalWidth: number,
  right: readonly number[] = [],
): string {
  const count = Math.max(0, ...rows.map((row) => row.length));
  const widths = Array.from({ length: count }, (_, column) =>
    Math.max(...rows.map((row) => stripVTControlCharacters(row[column] ?? '').length)),
  );
  const before = widths.slice(0, -1).reduce((sum, width) => sum + width + GAP, 0);
  const last = Math.min(widths[count - 1] ?? 0, Math.max(NARROWEST, totalWidth - before));
  const table = new Table({
    chars: NO_BORDERS,
    style: { 'padding-left': 0, 'padding-right': GAP, head: [], border: [], compact: true },
    colAligns: widths.map((_, column) => (right.includes(column) ? 'right' : 'left')),
    colWidths: [...widths.slice(0, -1), last].map((width) => width + GAP),
    wordWrap: true,
  });
  table.push(...rows.map((row) => [...row]));
  return table.toString().replaceAll(/ +$/gm, '');
}
