/** A verdict on an ABI in the format that a user asked for; text shows both layouts side by side. */
import { isCompatible } from '../../../../abi/compat/rules.js';
import type { Finding } from '../../../../abi/compat/rules.js';
import { textOf } from '../../../../abi/compat/shape.js';
import type { StructShape } from '../../../../abi/compat/shape.js';
import { EXIT } from '../../exit-status.js';
import type { ExitStatus } from '../../exit-status.js';
import { jsonText } from '../json.js';
import { columnsOf } from '../table.js';
import type { Terminal } from '../terminal.js';
import { githubText, junitText, sarifText, sentenceOf } from './formats.js';

/** The formats of `--format`. */
export const FORMATS = ['text', 'json', 'sarif', 'junit', 'github'] as const;

/** One of the formats. */
export type Format = (typeof FORMATS)[number];

/** What was found, and the two sides it was found in. */
export interface Verdict {
  readonly title: string;
  readonly findings: readonly Finding[];
  readonly before: readonly StructShape[];
  readonly now: readonly StructShape[];
  /** What the sides are called: contract and binary, OLD and NEW. */
  readonly sides: readonly [string, string];
}

/** Prints a verdict and gives its exit status. */
export function report(verdict: Verdict, format: Format, terminal: Terminal): ExitStatus {
  const { findings, title } = verdict;
  const compatible = isCompatible(findings);
  // prettier-ignore
  switch (format) {
    case 'json': terminal.print(jsonText({ compatible, findings })); break;
    case 'sarif': terminal.print(sarifText(findings)); break;
    case 'junit': terminal.print(junitText(title, findings)); break;
    case 'github': if (findings.length > 0) terminal.print(githubText(findings)); break;
    case 'text': terminal.print(textReport(verdict, compatible, terminal)); break;
  }
  return compatible ? EXIT.OK : EXIT.FINDING;
}

function textReport(verdict: Verdict, compatible: boolean, terminal: Terminal): string {
  const { title, findings } = verdict;
  const word = compatible
    ? terminal.style('green', 'compatible')
    : terminal.style('red', 'incompatible');
  const lines = findings.map((one) => `  ${one.severity} ${one.rule}: ${sentenceOf(one)}`);
  const judged = findings.filter(({ severity, field }) => severity === 'error' && field !== '');
  const structs = [...new Set(judged.map(({ struct }) => struct))];
  const pictures = structs.map((struct) => sideBySide(verdict, struct, terminal));
  return [`${title}: ${word}`, ...lines, ...pictures.filter((text) => text !== '')].join('\n');
}

/** Both layouts of a structure from three lines before a difference to three after it. */
function sideBySide({ before, now, sides }: Verdict, struct: string, terminal: Terminal): string {
  const [left, right] = [before, now].map((side) => side.find(({ name }) => name === struct));
  if (left === undefined || right === undefined) return '';
  const offsets = [...new Set([...left.fields, ...right.fields].map(({ offset }) => offset))];
  const line = (side: StructShape, at: number): string =>
    side.fields
      .filter(({ offset }) => offset === at)
      .map((field) => `${field.name}: ${textOf(field)}`)
      .join('; ');
  const rows = offsets
    .sort((a, b) => a - b)
    .map((at) => [line(left, at), line(right, at)] as const)
    .map(([a, b]) => [a === b ? '   ' : ' ! ', a, b]);
  const isNear = (at: number): boolean =>
    rows.slice(Math.max(0, at - 3), at + 4).some(([mark]) => mark === ' ! ');
  const shown = rows.filter((_, index) => isNear(index));
  return columnsOf(
    [['', `struct ${struct} (${sides[0]})`, `(${sides[1]})`], ...shown],
    Math.max(terminal.columns, 160),
  );
}
