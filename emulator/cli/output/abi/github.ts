/**
 * Findings as GitHub's workflow commands, which annotate lines of a pull request.
 *
 * Source: GitHub's documentation, "Workflow commands for GitHub Actions".
 */
import type { Finding, Severity } from '../../../../abi/compat/rules.js';
import { lineOf, sentenceOf } from './sentences.js';

const COMMAND: Readonly<Record<Severity, string>> = {
  error: 'error',
  warning: 'warning',
  note: 'notice',
};

/** One command a line. */
export function githubText(findings: readonly Finding[]): string {
  return findings
    .map((one) => {
      const { file, line } = lineOf(one);
      const place = `file=${property(file)},line=${line},title=${property(one.rule)}`;
      return `::${COMMAND[one.severity]} ${place}::${data(sentenceOf(one))}`;
    })
    .join('\n');
}

function data(text: string): string {
  return text.replaceAll('%', '%25').replaceAll('\r', '%0D').replaceAll('\n', '%0A');
}

function property(text: string): string {
  return data(text).replaceAll(':', '%3A').replaceAll(',', '%2C');
}
