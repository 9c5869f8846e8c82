/**
 * Findings as a JUnit report: one test case for each rule that can fail.
 *
 * Source: the schema that Jenkins and GitLab read.
 */
import { RULES } from '../../../../abi/compat/rules.js';
import type { Finding, RuleId } from '../../../../abi/compat/rules.js';
import { sentenceOf } from './sentences.js';

/** The report; a failed case lists its findings. */
export function junitText(title: string, findings: readonly Finding[]): string {
  const ids = Object.keys(RULES) as RuleId[];
  const errors = findings.filter(({ severity }) => severity === 'error');
  const cases = ids
    .filter((id) => RULES[id].severity === 'error')
    .map((id) => {
      const own = errors.filter(({ rule }) => rule === id);
      const open = `    <testcase classname="abi" name="${escaped(id)}"`;
      if (own.length === 0) return `${open}/>`;
      const text = own.map((one) => escaped(sentenceOf(one))).join('\n');
      const message = `${own.length} ${own.length === 1 ? 'finding' : 'findings'}`;
      return `${open}>\n      <failure message="${message}">${text}</failure>\n    </testcase>`;
    });
  const failures = new Set(errors.map(({ rule }) => rule)).size;
  const counts = `tests="${cases.length}" failures="${failures}"`;
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites ${counts}>`,
    `  <testsuite name="${escaped(title)}" ${counts}>`,
    ...cases,
    '  </testsuite>',
    '</testsuites>',
  ].join('\n');
}

/** Characters that XML forbids altogether become `?`. */
function escaped(text: string): string {
  return text
    .replaceAll(/[^\t\n\u0020-\ud7ff\ue000-\ufffd]/g, '?')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
