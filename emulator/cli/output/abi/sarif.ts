/**
 * Findings as a SARIF 2.1.0 log, which GitHub's code scanning takes.
 *
 * Source: the OASIS SARIF 2.1.0 specification; GitHub's documentation, "SARIF support for code scanning".
 * Invariant: every result has a location, a rule that the log describes, and a fingerprint that line numbers do not move.
 */
import { RULES } from '../../../../abi/compat/rules.js';
import type { Finding, RuleId, Severity } from '../../../../abi/compat/rules.js';
import { programVersion } from '../../version.js';
import { jsonText } from '../json.js';
import { lineOf, sentenceOf } from './sentences.js';

const LEVEL: Readonly<Record<Severity, string>> = {
  error: 'error',
  warning: 'warning',
  note: 'note',
};

/** A SARIF log with one run. */
export function sarifText(findings: readonly Finding[]): string {
  const ids = Object.keys(RULES) as RuleId[];
  return jsonText({
    $schema: 'https://json.schemastore.org/sarif-2.1.0.json',
    version: '2.1.0',
    runs: [
      {
        tool: {
          driver: {
            name: 'caretaker-emu',
            semanticVersion: programVersion(),
            rules: ids.map(ruleDescriptor),
          },
        },
        columnKind: 'utf16CodeUnits',
        results: findings.map((one) => resultOf(one, ids)),
      },
    ],
  });
}

function ruleDescriptor(id: RuleId): unknown {
  const { explanation, example, severity } = RULES[id];
  return {
    id,
    shortDescription: { text: explanation },
    fullDescription: { text: `${explanation}. For example: ${example}.` },
    help: { text: `${explanation}. For example: ${example}.` },
    defaultConfiguration: { level: LEVEL[severity] },
    properties: { tags: ['abi'] },
  };
}

function resultOf(one: Finding, ids: readonly RuleId[]): unknown {
  const { file, line } = lineOf(one);
  return {
    ruleId: one.rule,
    ruleIndex: ids.indexOf(one.rule),
    level: LEVEL[one.severity],
    message: { text: sentenceOf(one) },
    locations: [
      {
        physicalLocation: {
          artifactLocation: { uri: encodeURI(file), uriBaseId: '%SRCROOT%' },
          region: { startLine: line },
        },
      },
    ],
    partialFingerprints: { 'finding/v1': `${one.rule}/${one.struct}/${one.field}` },
  };
}
