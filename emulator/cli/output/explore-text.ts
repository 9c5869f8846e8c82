/** An exploration for people: how many points of each reason and event were tried, and each finding with its schedule. */
import { EVENTS } from '../../explore/events.js';
import type {
  ExplorationReport,
  ExploreFindingReport,
  InterleavingsReport,
} from '../../explore/report.js';
import { isSceneSchedule } from '../../explore/interleave/scene-schedule.js';
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
    ...(report.runs === 0 ? [] : [matrixText(report, terminal), '']),
    ...(report.interleavings === null
      ? []
      : [interleavingsText(report.interleavings, terminal), '']),
    ...stories(findings, terminal, 'red'),
    ...(outsideContract.runs === 0
      ? []
      : [
          `outside the contract: ${outsideContract.points} points in ${outsideContract.runs} runs, ` +
            counted(outsideContract.findings.length, 'finding'),
          ...stories(outsideContract.findings, terminal, 'yellow'),
        ]),
    `${tried(report)}; ${verdict}; ${held} of ${report.invariants.length} invariants held`,
  ].join('\n');
}

/** What was tried, and how long that took. */
function tried({ points, runs, seconds, interleavings }: ExplorationReport): string {
  const events = `${points} points in ${runs} runs, ${seconds.toFixed(1)} s`;
  if (interleavings === null) return events;
  const { executions, steps } = interleavings;
  const orders = `${executions} interleavings in ${steps} steps, ${interleavings.seconds.toFixed(1)} s`;
  return runs === 0 ? orders : `${events}; ${orders}`;
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

/** A row for those that act together, a column a state; a plus stands behind what was given up. */
function interleavingsText({ casts, tso }: InterleavingsReport, terminal: Terminal): string {
  const states = [...new Set(casts.map(({ state }) => state))];
  const actors = [...new Set(casts.map((cast) => cast.actors))];
  const cell = (row: string, column: string): string => {
    const cast = casts.find((one) => one.actors === row && one.state === column);
    return cast === undefined ? '-' : `${cast.executions}${cast.isComplete ? '' : '+'}`;
  };
  return columnsOf(
    [
      [`interleavings of${tso ? ', under x86-TSO' : ''}`, ...states],
      ...actors.map((row) => [row, ...states.map((state) => cell(row, state))]),
    ],
    terminal.columns,
    states.map((_, index) => index + 1),
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
      `  ${isSceneSchedule(schedule) ? 'found' : 'the event comes'} at ${symbol ?? address}; ${counted(branches, 'branch')} like this`,
      '',
    ]);
  const left = findings.length - TOLD;
  return left > 0 ? [...told, `and ${left} more; --json has them all`, ''] : told;
}
