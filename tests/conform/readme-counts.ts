/** The tables of the README that hold the counts of a run of `conform` with its default seed. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ConformanceReport } from '../../emulator/conform/conformance.js';
import { packageRoot } from '../../emulator/machine/package-root.js';

const README = join(packageRoot(), 'README.md');
const BEGIN = '<!-- counts: conform -->\n';
const END = '<!-- end of counts -->';

const LISTS = [
  ['controls', 'control fields', 'kvm-unit-tests'],
  ['hostState', 'host state', 'kvm-unit-tests'],
  ['guestState', 'guest state, loading of MSRs', 'kvm-unit-tests'],
  ['exits', 'VM exits', 'kvm-unit-tests'],
  ['liveupdate', 'live update', 'selftests of Linux'],
] as const;

const line = (...cells: readonly (string | number)[]): string =>
  `| ${cells.map((cell) => cell.toLocaleString('en')).join(' | ')} |`;

/** The tables as they must stand in the README. */
export function countTables({ rows, exits, instructions, peers }: ConformanceReport): string {
  return [
    line('compared', 'cases', 'agree', 'known', 'not offered'),
    line('---', '---', '---', '---', '---'),
    line('checks of VM entry', rows.tried, rows.agree, rows.known, rows.notOffered),
    line('VM exits of guest code', exits.tried, exits.agree, exits.known, '-'),
    line('instruction sequences', instructions.tried, instructions.agree, instructions.known, '-'),
    '',
    line('cases of', 'from', 'listed', 'held', 'open', 'VM entries tried'),
    line('---', '---', '---', '---', '---', '---'),
    ...LISTS.map(([list, what, from]) => {
      const { rows: listed, held, open, attempts } = peers[list];
      return line(what, from, listed, held, open, attempts === 0 ? '-' : attempts);
    }),
    '',
  ].join('\n');
}

/** The tables as they stand in the README; with UPDATE_GOLDEN=1 `wanted` takes their place first. */
export function shownTables(wanted: string): string {
  const text = readFileSync(README, 'utf8');
  const [from, to] = [text.indexOf(BEGIN) + BEGIN.length, text.indexOf(END)];
  if (process.env['UPDATE_GOLDEN'] !== '1') return text.slice(from, to);
  writeFileSync(README, text.slice(0, from) + wanted + text.slice(to));
  return wanted;
}
