/** An exploration for people: how many points of each reason and event were tried, and each finding with its schedule. */
import { EVENTS } from '../../explore/events.js';
import type { ExplorationReport, ExploreFindingReport } from '../../explore/report.js';
import { columnsOf } from './table.js';
import type { Terminal } from './terminal.js';

/** Findings that are told in full; the rest are in the document of --json. */
const TOLD = 20;

/** The whole page. */
export function explorationText(report: ExplorationReport, terminal: Terminal): string {
  const { findings, outsideContract } = report;
  const verdict =
    findings.length === 0
      ? terminal.style('green', 'no findings')
      : terminal.style('red', counted(findings.length, 'finding'));
  const held = report.invariants.filter((invariant) => invariant.held).length;
  return [
    matrixText(report, terminal),
    '',
    ...stories(findings, terminal, 'red'),
    ...(outsideContract.runs === 0
      ? []
      : [
          `outside the contract: ${outsideContract.points} points in ${outsideContract.runs} runs, ` +
            counted(outsideContract.findings.length, 'finding'),
          ...stories(outsideContract.findings, terminal, 'yellow'),
        ]),
    `${report.points} points in ${report.runs} runs, ${report.seconds.toFixed(1)} s; ${verdict}; ` +
      `${held} of ${report.invariants.length} invariants held`,
  ].join('\n');
}

const counted = (count: number, what: string): string =>
  `${count} ${what}${count === 1 ? '' : what.endsWith('h') ? 'es' : 's'}`;

/** A column an event; pairs are told by their first. */
function matrixText({ matrix, depth }: ExplorationReport, terminal: Terminal): string {
  const tried = new Set(Object.values(matrix).flatMap((row) => Object.keys(row)));
  const columns = EVENTS.map(({ name }) => name).filter((name) =>
    [...tried].some((events) => events.split('+')[0] === name),
  );
  const rows = Object.entries(matrix).map(([reason, row]) => [
    reason,
    ...columns.map((name) => {
      const points = Object.entries(row)
        .filter(([events]) => events.split('+')[0] === name)
        .reduce((sum, [, count]) => sum + count, 0);
      return points === 0 ? '-' : String(points);
    }),
  ]);
  const what = depth === 1 ? 'reason' : 'reason (by first event)';
  return columnsOf(
    [[what, ...columns], ...rows],
    terminal.columns,
    columns.map((_, index) => index + 1),
  );
}

function stories(
  findings: readonly ExploreFindingReport[],
  terminal: Terminal,
  style: 'red' | 'yellow',
): readonly string[] {
  const told = findings
    .slice(0, TOLD)
    .flatMap(({ invariant, schedule, message, symbol, address, branches }) => [
      `${terminal.style(style, invariant)} ${schedule}`,
      `  ${message}`,
      `  the event comes at ${symbol ?? address}; ${counted(branches, 'branch')} like this`,
      '',
    ]);
  const left = findings.length - TOLD;
  return left > 0 ? [...told, `and ${left} more; --json has them all`, ''] : told;
}
