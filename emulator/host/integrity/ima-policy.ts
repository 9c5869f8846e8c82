/**
 * An IMA policy: which payload files are measured, and whether they are appraised by their appended signature.
 *
 * Source: Linux Documentation/ABI/testing/ima_policy; security/integrity/ima/ima_policy.c: ima_match_policy(), where the
 * first rule that matches an action decides on it.
 * Invariant: a policy is read whole or refused with the line and the rule; nothing that is not understood is skipped.
 * Not modelled: other hooks than the payload's, and conditions (uid, fsuuid, template, pcr).
 */
import { HarnessError } from '../../../abi/errors.js';

/** What the policy wants of a payload file. */
export interface ImaRules {
  readonly measure: boolean;
  /** A file without a good appended signature is refused, lockdown or not. */
  readonly appraise: boolean;
}

/** A policy that cannot be used: `details` has the line and the rule. */
export class ImaPolicyError extends HarnessError<'IMA_POLICY_RULE'> {}

const HOOK = 'func=CARETAKER_CHECK';
const SIGNATURES: readonly string[] = ['appraise_type=modsig', 'appraise_type=imasig|modsig'];
const ACTIONS = ['measure', 'dont_measure', 'appraise', 'dont_appraise'] as const;
type Action = (typeof ACTIONS)[number];

/** Reads the text of a policy. @throws ImaPolicyError. */
export function readPolicy(text: string): ImaRules {
  const actions = text.split('\n').flatMap((line, index) => actionOf(line, index + 1));
  const first = (one: Action, other: Action): boolean =>
    actions.find((action) => action === one || action === other) === one;
  return {
    measure: first('measure', 'dont_measure'),
    appraise: first('appraise', 'dont_appraise'),
  };
}

/** The action of a line; none for an empty one or a comment. */
function actionOf(text: string, line: number): readonly Action[] {
  const words = text
    .replace(/#.*$/, '')
    .split(/\s+/)
    .filter((word) => word !== '');
  const [name, hook, ...conditions] = words;
  if (name === undefined) return [];
  const refuse = (rule: string): never => {
    throw new ImaPolicyError('IMA_POLICY_RULE', rule, { line, rule });
  };
  const action = ACTIONS.find((one) => one === name);
  if (action === undefined) return refuse(`"${name}" is none of ${ACTIONS.join(', ')}`);
  if (hook !== HOOK)
    return refuse(`${HOOK} is wanted behind the action: no other hook is modelled`);
  const [condition, ...others] = conditions;
  if (action !== 'appraise') {
    if (condition !== undefined) refuse(`"${condition}" is no condition of ${action} here`);
  } else if (condition === undefined || !SIGNATURES.includes(condition) || others.length > 0) {
    refuse(`appraise takes ${SIGNATURES.join(' or ')}, and nothing else`);
  }
  return [action];
}
