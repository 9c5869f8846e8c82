/** The tables of the README that hold the counts of a run of `conform` with its default seed. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ConformanceReport, SmallTally, Tally } from '../../emulator/conform/conformance.js';
import { packageRoot } from '../../emulator/machine/package-root.js';

const README = join(packageRoot(), 'README.md');
const BEGIN = '<!-- counts: conform -->\n';
const END = '<!-- end of counts -->';

const LISTS = [
  ['controls', 'control fields', 'kvm-unit-tests'],
  ['hostState', 'host state', 'kvm-unit-tests'],
  ['guestState', 'guest state, loading of MSRs', 'kvm-unit-tests'],
  ['exits', 'VM exits', 'kvm-unit-tests'],
  ['instructions', 'VMX instructions', 'kvm-unit-tests'],
  ['liveupdate', 'live update', 'selftests of Linux'],
] as const;

const line = (...cells: readonly (string | number)[]): string =>
  `| ${cells.map((cell) => cell.toLocaleString('en')).join(' | ')} |`;

/** The tables as they must stand in the README. */
export function countTables(report: ConformanceReport): string {
  const { rows, variants, peers } = report;
  const whole = (what: string, { tried, agree, known, notOffered }: Tally): string =>
    line(what, tried, agree, known, notOffered);
  const small = (what: string, { tried, agree, known }: SmallTally): string =>
    line(what, tried, agree, known, '-');
  return [
    line('compared', 'cases', 'agree', 'known', 'not offered'),
    line('---', '---', '---', '---', '---'),
    whole('checks of VM entry', rows),
    whole('values and bits of a VMCS, mixtures of checks', variants),
    small('VM exits of guest code', report.exits),
    small('VMX instructions of root operation', report.vmxInstructions),
    small('lists of MSRs at VM exits, VMX aborts', report.aborts),
    small('accesses to MSRs and the local APIC', report.localApic),
    small('instruction sequences', report.instructions),
    '',
    line('cases of', 'from', 'listed', 'held', 'known', 'not offered', 'VM entries tried'),
    line('---', '---', '---', '---', '---', '---', '---'),
    ...LISTS.map(([list, what, from]) => {
      const { rows: listed, held, known, notOffered, attempts } = peers[list];
      return line(what, from, listed, held, known, notOffered, attempts === 0 ? '-' : attempts);
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
