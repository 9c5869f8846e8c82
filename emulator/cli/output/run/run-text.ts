/**
 * A run as a page: what ran, the picture, what happened when, what each vCPU did, what was checked, and the verdict.
 *
 * Invariant: a function of the report and of the terminal's width, characters and colours; the verdict is the last line.
 */
import type { RunReport } from '../../../report/run-report.js';
import { columnsOf } from '../table.js';
import type { Terminal } from '../terminal.js';
import { eventsTable } from './events.js';
import { findingsText, invariantsTable } from './invariants.js';
import { pictureText, type Picture } from './picture.js';
import { exitsTable, stallsTable, telemetryTables } from './telemetry.js';
import { grouped, plural } from './units.js';

/** A report, and what is drawn of it; null when nothing ran. */
export interface RunPage {
  readonly report: RunReport;
  readonly picture: Picture | null;
  /** Events on the page, at most, when somebody said how many. */
  readonly mostEvents: number | null;
}

/** The text of `run`. */
export function runText({ report, picture, mostEvents }: RunPage, terminal: Terminal): string {
  const sections = [
    title(report, terminal),
    picture === null ? '' : pictureText(picture, terminal),
    eventsTable(report, mostEvents, terminal),
    exitsTable(report, terminal),
    telemetryTables(report, terminal),
    stallsTable(report, terminal),
    evidence(report, terminal),
    invariantsTable(report, terminal),
    findingsText(report, terminal),
    verdict(report, terminal),
  ];
  return sections.filter((text) => text !== '').join('\n\n');
}

function title(
  { scenario, description, vcpus, seed, payload }: RunReport,
  terminal: Terminal,
): string {
  const facts = [
    plural(vcpus.length, 'vCPU'),
    `seed ${seed}`,
    `payload ${payload.sha256.slice(0, 12)}`,
  ];
  return [
    `${terminal.style('bold', scenario)}  ${terminal.style('dim', facts.join(', '))}`,
    columnsOf([[description]], terminal.columns),
  ].join('\n');
}

/** What the scenario is about, counted: `nmisDelivered` as "NMIs delivered". */
function evidence({ evidence: counts }: RunReport, terminal: Terminal): string {
  const items = Object.entries(counts)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, count]) => `${grouped(count)} ${wordsOf(name)}`);
  if (items.length === 0) return '';
  return columnsOf([[terminal.style('bold', 'counted'), items.join(', ')]], terminal.columns);
}

const ABBREVIATIONS: Readonly<Record<string, string>> = {
  nmis: 'NMIs',
  ipis: 'IPIs',
  eois: 'EOIs',
  kvm: 'KVM',
  apic: 'APIC',
  vms: 'VMs',
  vcpus: 'vCPUs',
};

function wordsOf(name: string): string {
  const words = name.replaceAll(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`).split(' ');
  return words.map((word) => ABBREVIATIONS[word] ?? word).join(' ');
}

function verdict(report: RunReport, terminal: Terminal): string {
  const { result, scenario, vcpus, invariants, checks, findings, expected, stopped } = report;
  const exits = vcpus.reduce((sum, vcpu) => sum + vcpu.exits.total, 0);
  const exercised = invariants.filter(({ checked }) => checked > 0).length;
  const broken = invariants.filter(({ held }) => !held).map(({ id }) => id);
  const isAsExpected = findings.length > 0 && result === 'pass';
  const facts = [
    plural(exits, 'exit'),
    `${plural(checks, 'check')} of ${exercised} invariants`,
    plural(findings.length, 'finding') + (isAsExpected ? ', as expected' : ''),
  ];
  const word = terminal.style(
    result === 'pass' ? 'green' : 'red',
    result === 'pass' ? 'PASS' : 'FAIL',
  );
  const lines = [`${word}  ${scenario}: ${facts.join(', ')}`];
  for (const { invariant, says, came } of expected)
    if (!came) lines.unshift(`expected, and did not come: ${invariant}: ${says}`);
  if (broken.length > 0) lines.unshift(`broken: ${broken.join(', ')}`);
  if (stopped !== null) lines.unshift(`stopped: ${stopped.message}`);
  return lines.map((line) => columnsOf([[line]], terminal.columns)).join('\n');
}
