/** A campaign's account for people: what was tried, what became of it, and each finding as a story. */
import type { CampaignReport } from '../../fuzz/report.js';
import { columnsOf } from './table.js';
import type { Terminal } from './terminal.js';

/** The whole page. */
export function campaignText(report: CampaignReport, terminal: Terminal): string {
  const { coverage, findings } = report;
  const { executed, total } = coverage.lines;
  const lines = total === 0 ? 'no line information' : `${executed} of ${total} source lines`;
  const broken = report.invariants.filter(({ held }) => !held).length;
  const verdict =
    findings.length === 0
      ? terminal.style('green', 'no findings')
      : terminal.style(
          'red',
          `${findings.length} ${findings.length === 1 ? 'finding' : 'findings'}`,
        );
  return [
    `${report.execs} inputs, ${report.exits} exits in ${report.seconds.toFixed(1)} s ` +
      `(${report.exitsPerSecond} exits/s), seed ${report.seed}`,
    `coverage: ${coverage.edges} edges, ${coverage.blocks} blocks, ${lines}; corpus ${report.corpus}`,
    '',
    reasonTable(report, terminal),
    '',
    ...findings.flatMap((finding) => [
      `${terminal.style('red', finding.invariant)} ${finding.id}${finding.file === null ? '' : ` (${finding.file})`}`,
      ...finding.story.map((line) => `  ${line}`),
      '',
    ]),
    `${verdict}; ${report.invariants.length - broken} of ${report.invariants.length} invariants held`,
  ].join('\n');
}

function reasonTable(report: CampaignReport, terminal: Terminal): string {
  const head = ['reason', 'state', 'fastpath', 'routed', 'blocked'];
  const rows = report.states.map(({ reason, attached, fastpath, routed, blocked }) => [
    reason,
    attached ? 'attached' : 'detached',
    ...[fastpath, routed, blocked].map((count) => (count === 0 ? '-' : String(count))),
  ]);
  return columnsOf([head, ...rows], terminal.columns, [2, 3, 4]);
}
