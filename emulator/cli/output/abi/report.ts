/** A verdict on an ABI in the format that a user asked for. */
import { isCompatible } from '../../../../abi/compat/rules.js';
import type { Finding } from '../../../../abi/compat/rules.js';
import type { StructShape } from '../../../../abi/compat/shape.js';
import { EXIT } from '../../exit-status.js';
import type { ExitStatus } from '../../exit-status.js';
import { jsonText } from '../json.js';
import type { Terminal } from '../terminal.js';
import { abiText } from './abi-text.js';
import { githubText } from './github.js';
import { junitText } from './junit.js';
import { sarifText } from './sarif.js';

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
  /** What was looked at, a sentence a line; for people. */
  readonly looked: readonly string[];
  /** More for the JSON document: counts, and why a file was refused. */
  readonly evidence: Readonly<Record<string, unknown>>;
}

/** Prints a verdict and gives its exit status. */
export function report(verdict: Verdict, format: Format, terminal: Terminal): ExitStatus {
  const { findings, title, evidence } = verdict;
  const compatible = isCompatible(findings);
  // prettier-ignore
  switch (format) {
    case 'json': terminal.print(jsonText({ compatible, findings, ...evidence })); break;
    case 'sarif': terminal.print(sarifText(findings)); break;
    case 'junit': terminal.print(junitText(title, findings)); break;
    case 'github': if (findings.length > 0) terminal.print(githubText(findings)); break;
    case 'text': terminal.print(abiText(verdict, compatible, terminal)); break;
  }
  return compatible ? EXIT.OK : EXIT.FINDING;
}
