/**
 * The findings that a scenario is there to show, beside those that came.
 *
 * Invariant: a finding is expected when one expectation names its invariant and a part of its message.
 */
import type { Finding } from '../../vmx/stop-reason.js';
import type { Scenario } from './schema.js';

type Expectation = Scenario['expect'][number];

const answers = ({ invariant, message }: Finding, wanted: Expectation): boolean =>
  invariant === wanted.invariant && message.includes(wanted.says);

/** Each expectation, and whether a finding answers it. */
export function expectedFindings(
  { expect }: Scenario,
  findings: readonly Finding[],
): readonly (Expectation & { readonly came: boolean })[] {
  return expect.map((one) => ({
    ...one,
    came: findings.some((finding) => answers(finding, one)),
  }));
}

/** Findings that no expectation names. */
export function unexpectedFindings(
  { expect }: Scenario,
  findings: readonly Finding[],
): readonly Finding[] {
  return findings.filter((finding) => !expect.some((one) => answers(finding, one)));
}
