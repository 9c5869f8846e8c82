/** A run report for people: the verdict first, then what each vCPU did, what happened when, and what was checked. */
import type { Weight } from '../../machine/timeline.js';
import type { RunReport } from '../../report/run-report.js';
import { columnsOf } from './table.js';
import type { Terminal } from './terminal.js';

/** The text of `run`; events below `leastWeight` are left out. */
export function runText(report: RunReport, leastWeight: Weight, terminal: Terminal): string {
  const events = report.timeline.filter(({ weight }) => weight >= leastWeight);
  const sections = [
    headline(report, terminal),
    vcpuTable(report, terminal),
    timeline({ ...report, timeline: events }, terminal),
    invariants(report, terminal),
  ];
  return sections.filter((text) => text !== '').join('\n\n');
}

function headline(report: RunReport, terminal: Terminal): string {
  const { result, scenario, seed, gap, tscFrequencyHz, stopped } = report;
  const verdict = terminal.style(result === 'pass' ? 'green' : 'red', result);
  const lines = [`${verdict}  ${scenario}, seed ${seed}, ${report.vcpus.length} vCPUs`];
  if (gap !== null) {
    const seconds = ((gap.tscEnd - gap.tscStart) / tscFrequencyHz).toFixed(3);
    lines.push(`the gap: ${seconds} s of virtual time without KVM`);
  }
  if (stopped !== null) lines.push(terminal.style('red', `stopped: ${stopped.message}`));
  return lines.join('\n');
}

function vcpuTable({ vcpus, tscFrequencyHz }: RunReport, terminal: Terminal): string {
  const header = ['vCPU', 'exits', 'fastpath', 'routed', 'blocked', 'waited for KVM'];
  const rows = vcpus.map(({ id, exits, telemetry }) => [
    `${id}`,
    ...[exits.total, exits.fastpath, exits.routed, exits.blocked].map(String),
    `${((telemetry.stallTsc * 1000) / tscFrequencyHz).toFixed(3)} ms`,
  ]);
  return columnsOf([bold(header, terminal), ...rows], terminal.columns, [0, 1, 2, 3, 4, 5]);
}

function timeline({ timeline: events, tscFrequencyHz }: RunReport, terminal: Terminal): string {
  if (events.length === 0) return '';
  const rows = events.map(({ tsc, vcpu, event }) => [
    (tsc / tscFrequencyHz).toFixed(6),
    vcpu === null ? 'host' : `vCPU ${vcpu}`,
    event,
  ]);
  return columnsOf([bold(['seconds', 'who', 'what'], terminal), ...rows], terminal.columns, [0]);
}

function invariants({ invariants: results }: RunReport, terminal: Terminal): string {
  const rows = results.map(({ id, held, checked, detail }) => {
    const verdict = held ? (checked === 0 ? 'unused' : 'held') : 'BROKEN';
    const style = held ? (checked === 0 ? 'yellow' : 'green') : 'red';
    return [id, terminal.style(style, verdict), `${checked}`, detail];
  });
  const header = bold(['invariant', '', 'checked', ''], terminal);
  return columnsOf([header, ...rows], terminal.columns, [2]);
}

function bold(cells: readonly string[], terminal: Terminal): string[] {
  return cells.map((cell) => (cell === '' ? cell : terminal.style('bold', cell)));
}
