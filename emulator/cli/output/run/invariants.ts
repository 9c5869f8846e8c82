/** What was checked and what broke: every invariant with its count, every finding in full. */
import type { InvariantResult } from '../../../machine/ledger.js';
import type { RunReport } from '../../../report/run-report.js';
import { jsonText } from '../json.js';
import { columnsOf } from '../table.js';
import type { Terminal } from '../terminal.js';
import { grouped, plural } from './units.js';

/** From this width on the table is folded once. */
const WIDE = 150;
/** Findings on a page; the document has more of them. */
const MOST_FINDINGS = 20;

/** A line an invariant: held or BROKEN and how often its condition was evaluated, or `not exercised`. */
export function invariantsTable({ invariants }: RunReport, terminal: Terminal): string {
  const header = ['invariant', '', 'checked'].map((cell) =>
    cell === '' ? '' : terminal.style('bold', cell),
  );
  const rows = invariants.map((result) => rowOf(result, terminal));
  const fold = terminal.columns >= WIDE ? Math.ceil(rows.length / 2) : rows.length;
  const lines = [header, ...rows.slice(0, fold)].map((row, index) => {
    const right = fold === rows.length ? [] : index === 0 ? header : rows[fold + index - 1];
    return right === undefined || right.length === 0 ? [...row] : [...row, '    ', ...right];
  });
  return columnsOf(lines, terminal.columns, [2, 6]);
}

function rowOf({ id, held, checked }: InvariantResult, terminal: Terminal): string[] {
  if (!held) return [id, terminal.style('red', 'BROKEN'), grouped(checked)];
  if (checked === 0) return [id, terminal.style('yellow', 'not exercised'), '-'];
  return [id, terminal.style('green', 'held'), grouped(checked)];
}

/** Every finding: the invariant, where in the payload, what happened, and the details it came with. */
export function findingsText({ findings }: RunReport, terminal: Terminal): string {
  const left = findings.length - MOST_FINDINGS;
  const note = left > 0 ? [`${plural(left, 'more finding')}: --json`] : [];
  const texts = findings
    .slice(0, MOST_FINDINGS)
    .map(({ invariant, message, address, symbol, details }, index) => {
      const place = symbol === null ? address : `${address} <${symbol}>`;
      const head = `finding ${index + 1}: ${terminal.style('red', invariant)} at ${place}`;
      const rows = Object.entries(details).map(([name, value]) => [`  ${name}`, textOf(value)]);
      return [
        head,
        columnsOf([['', message]], terminal.columns),
        ...(rows.length === 0 ? [] : [columnsOf(rows, terminal.columns)]),
      ].join('\n');
    });
  return [...texts, ...note].join('\n');
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : jsonText(value));
