/**
 * Names that the end of an expression may become: registers, names in scope, and members of what stands before a dot.
 *
 * Invariant: asking changes nothing; an expression that cannot be evaluated has no members.
 */
import { HarnessError } from '../../../../abi/errors.js';
import { MSR } from '../../../../abi/msrs.js';
import { VMCS_FIELDS } from '../../../../abi/vmcs-fields.js';
import type { CRecord } from '../../../../loader/dwarf/c-types.js';
import { evaluate } from './evaluate.js';
import type { ExpressionScope } from './scope.js';

/** The part of a text that would be replaced, and by what. */
export interface Completion {
  readonly part: string;
  readonly names: readonly string[];
}

/** A name or an element of it, with everything before the last dot or arrow; then the name at hand. */
const MEMBER = /((?:\$?[A-Za-z_]\w*|\[[^\]]*\]|\.|->)+?)(?:\.|->)(\w*)$/;

/** What the end of a text may become. */
export function completeExpression(text: string, scope: ExpressionScope): Completion {
  const [, owner, member = ''] = MEMBER.exec(text) ?? [];
  if (owner !== undefined) return begun(member, membersOf(owner, scope));
  const part = /\$?\w*$/.exec(text)?.[0] ?? '';
  if (part.startsWith('$'))
    return begun(
      part,
      scope.registerNames.map((name) => `$${name}`),
    );
  return begun(part, scope.names);
}

/** Names that begin like a part, in either case. */
function begun(part: string, names: readonly string[]): Completion {
  const upper = part.toUpperCase();
  const found = names.filter((name) => name.startsWith(part) || name.startsWith(upper));
  return { part, names: [...new Set(found)] };
}

function membersOf(owner: string, scope: ExpressionScope): readonly string[] {
  if (owner === 'vmcs') return VMCS_FIELDS.map(({ name }) => name);
  if (owner === 'msr') return Object.keys(MSR);
  try {
    const { type } = evaluate(owner, scope);
    const whole = type.kind === 'pointer' ? type.target() : type;
    return whole.kind === 'record' ? memberNames(whole) : [];
  } catch (error) {
    if (error instanceof HarnessError) return [];
    throw error;
  }
}

/** Members of records without a name are their owner's. */
function memberNames(record: CRecord): readonly string[] {
  return record.members().flatMap(({ name, type }) => {
    if (name !== null) return [name];
    return type.kind === 'record' ? memberNames(type) : [];
  });
}
