/** A verdict on an ABI for people: one paragraph a finding, then both layouts of what differs. */
import { RULES } from '../../../../abi/compat/rules.js';
import type { Finding, RuleId, Severity } from '../../../../abi/compat/rules.js';
import type { Style, Terminal } from '../terminal.js';
import { wrapped } from '../wrapped.js';
import type { Verdict } from './report.js';
import { sideBySide } from './side-by-side.js';

/** Places that are listed for one rule; the rest is counted. */
const PLACES = 8;
const STYLES: Readonly<Record<Severity, Style>> = { error: 'red', warning: 'yellow', note: 'dim' };
const ORDER: readonly Severity[] = ['error', 'warning', 'note'];

/** The report as text of at most the terminal's columns. */
export function abiText(verdict: Verdict, compatible: boolean, terminal: Terminal): string {
  const { title, findings, looked } = verdict;
  const word = compatible
    ? terminal.style('green', 'compatible')
    : terminal.style('red', 'incompatible');
  const counts = ORDER.flatMap((severity) => {
    const count = findings.filter((one) => one.severity === severity).length;
    return count === 0 ? [] : [`${count} ${severity}${count === 1 ? '' : 's'}`];
  });
  const rules = [...new Set(findings.map(({ rule }) => rule))].sort(
    (a, b) => ORDER.indexOf(RULES[a].severity) - ORDER.indexOf(RULES[b].severity),
  );
  return [
    `${title}: ${[word, ...counts].join(', ')}`,
    ...looked.map((line) => wrapped(line, terminal.columns, '  ')),
    ...rules.map((rule) => ruleText(rule, findings, terminal)),
    ...pictures(verdict, terminal),
  ].join('\n');
}

function ruleText(rule: RuleId, findings: readonly Finding[], terminal: Terminal): string {
  const own = findings.filter((one) => one.rule === rule);
  const { severity } = own[0]!;
  const head = `${terminal.style(STYLES[severity], severity)} ${terminal.style('bold', rule)}`;
  const shown = own
    .slice(0, PLACES)
    .map((one) => wrapped(placeText(one), terminal.columns, '  ', 4));
  const rest = own.length > PLACES ? [`  ... ${own.length - PLACES} more`] : [];
  const why = wrapped(RULES[rule].explanation, terminal.columns, '  ');
  return [head, why, ...shown, ...rest].join('\n');
}

/** `caretaker_ccb.epoch: expected u64 at 4104, found u64 at 4112`. */
function placeText({ struct, field, expected, actual, address, source }: Finding): string {
  const what = [struct, field].filter((part) => part !== '').join('.');
  const at = address === undefined ? '' : ` (${address})`;
  const line = source === undefined ? '' : `, ${source.file}:${source.line}`;
  const where = what === '' ? '' : `${what}${at}${line}: `;
  return `${where}expected ${expected}, found ${actual}`;
}

function pictures({ before, now, sides, findings }: Verdict, terminal: Terminal): string[] {
  const judged = findings.filter(({ severity, field }) => severity !== 'note' && field !== '');
  const names = new Set(judged.map(({ struct }) => struct));
  return [...names].flatMap((name) => {
    const left = before.find((one) => one.name === name);
    if (left === undefined) return [];
    // A conflict has several layouts of one name; the one that differs is shown.
    const pairs = now.filter((one) => one.name === name);
    const drawn = pairs.map((right) => sideBySide(left, right, sides, terminal.columns));
    return drawn.filter((lines) => lines.length > 0).map((lines) => ['', ...lines].join('\n'));
  });
}
