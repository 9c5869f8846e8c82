/**
 * What the loader refuses, as findings: which rule of the contract each of its codes is about.
 *
 * Invariant: every code of the loader has a rule; those without one of their own mean that the file is no payload.
 */
import { finding } from '../../abi/compat/rules.js';
import type { Finding, RuleId } from '../../abi/compat/rules.js';
import { LOADER_RULES } from '../../loader/errors.js';
import type { LoaderError, LoaderErrorCode } from '../../loader/errors.js';
import { hex } from '../../abi/uint.js';

// prettier-ignore
const GROUPS: readonly (readonly [RegExp, RuleId])[] = [
  [/^CCB_(MISSING|BAD_SIZE|BAD_ALIGNMENT)$/, 'ccb-placement'],
  [/^CCB_(BAD_MAGIC|BAD_VERSION|BAD_SIZE_FIELD|FIELD_RELOCATED)$/, 'ccb-header'],
  [/^(CCB_ENTRY_|ENTRY_)/, 'entry-point'],
  [/^(RELOCATION|SYMBOL_(UNDEFINED|TYPE_REFUSED)|DYNAMIC_(NEEDED|TEXTREL|REL|JMPREL)$|SECTION_NOT_EMPTY)/, 'relocation-left'],
  [/^NOTE_/, 'note-bad'],
];

/** The rule that a refusal is about. */
export function ruleOf(code: LoaderErrorCode): RuleId {
  return GROUPS.find(([pattern]) => pattern.test(code))?.[1] ?? 'image-refused';
}

/** A refusal as a finding. */
export function refusalFinding({ code, message, details }: LoaderError): Finding {
  const { offset } = details;
  const isNumber = typeof offset === 'number' || typeof offset === 'bigint';
  const where = isNumber ? ` at file offset ${hex(offset)}` : '';
  // The rule's sentence is what is expected; it need not be said twice.
  const text = message.replace(/ \(rule: .*\)$/, '');
  return finding(ruleOf(code), '', '', LOADER_RULES[code], `${code}${where}: ${text}`);
}
