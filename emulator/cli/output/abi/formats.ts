/**
 * Findings for machines: SARIF 2.1.0, JUnit, GitHub's workflow commands.
 *
 * Source: the OASIS SARIF 2.1.0 specification; GitHub's documentation of code scanning and of workflow commands.
 */
import { RULES } from '../../../../abi/compat/rules.js';
import type { Finding, Severity } from '../../../../abi/compat/rules.js';
import { programVersion } from '../../version.js';
import { jsonText } from '../json.js';
import { headerLine } from './header-lines.js';

/** One sentence a finding. */
export function sentenceOf({ rule, struct, field, expected, actual }: Finding): string {
  const what = [struct, field].filter((part) => part !== '').join('.');
  const where = what === '' ? '' : `${what}: `;
  return `${where}expected ${expected}, found ${actual} (${RULES[rule].explanation})`;
}

const LEVEL: Readonly<Record<Severity, string>> = {
  error: 'error',
  warning: 'warning',
  note: 'note',
};

/** A SARIF log with one run. */
export function sarifText(findings: readonly Finding[]): string {
  const ids = Object.keys(RULES) as (keyof typeof RULES)[];
  return jsonText({
    $schema: 'https://json.schemastore.org/sarif-2.1.0.json',
    version: '2.1.0',
    runs: [
      {
        tool: {
          driver: {
            name: 'caretaker-emu abi',
            version: programVersion(),
            rules: ids.map((id) => ({
              id,
              shortDescription: { text: RULES[id].explanation },
              help: { text: `${RULES[id].explanation}. Example: ${RULES[id].example}` },
              defaultConfiguration: { level: LEVEL[RULES[id].severity] },
            })),
          },
        },
        results: findings.map((one) => {
          const { file, line } = headerLine(one.struct, one.field);
          return {
            ruleId: one.rule,
            ruleIndex: ids.indexOf(one.rule),
            level: LEVEL[one.severity],
            message: { text: sentenceOf(one) },
            locations: [
              {
                physicalLocation: {
                  artifactLocation: { uri: file, uriBaseId: '%SRCROOT%' },
                  region: { startLine: line },
                },
              },
            ],
            partialFingerprints: { finding: `${one.rule}/${one.struct}/${one.field}` },
          };
        }),
      },
    ],
  });
}

/** A JUnit report: a test case a rule that can fail, with its errors. */
export function junitText(title: string, findings: readonly Finding[]): string {
  const ids = Object.keys(RULES) as (keyof typeof RULES)[];
  const errors = findings.filter(({ severity }) => severity === 'error');
  const cases = ids
    .filter((id) => RULES[id].severity === 'error')
    .map((id) => {
      const own = errors.filter(({ rule }) => rule === id);
      const open = `    <testcase classname="abi" name="${escaped(id)}"`;
      if (own.length === 0) return `${open}/>`;
      const text = own.map((one) => escaped(sentenceOf(one))).join('\n');
      return `${open}>\n      <failure message="${own.length} findings">${text}</failure>\n    </testcase>`;
    });
  const failures = new Set(errors.map(({ rule }) => rule)).size;
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    '<testsuites>',
    `  <testsuite name="${escaped(title)}" tests="${cases.length}" failures="${failures}">`,
    ...cases,
    '  </testsuite>',
    '</testsuites>',
  ].join('\n');
}

function escaped(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}

const COMMAND: Readonly<Record<Severity, string>> = {
  error: 'error',
  warning: 'warning',
  note: 'notice',
};

/** Workflow commands that annotate the header's line. */
export function githubText(findings: readonly Finding[]): string {
  const data = (text: string): string =>
    text.replaceAll('%', '%25').replaceAll('\r', '%0D').replaceAll('\n', '%0A');
  const property = (text: string): string =>
    data(text).replaceAll(':', '%3A').replaceAll(',', '%2C');
  return findings
    .map((one) => {
      const { file, line } = headerLine(one.struct, one.field);
      const place = `file=${property(file)},line=${line},title=${property(one.rule)}`;
      return `::${COMMAND[one.severity]} ${place}::${data(sentenceOf(one))}`;
    })
    .join('\n');
}
