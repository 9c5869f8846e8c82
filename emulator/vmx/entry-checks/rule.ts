/**
 * What a check of VM entry is: one table row a rule.
 *
 * Source: SDM, "VM Entries" > "Checks on VMX Controls and Host-State Area", "Checking and Loading Guest State".
 * Invariant: `holds` reads no VMCS field, and no bit of one, that `reads` does not name; a rule that looks at anything else (memory, the
 * processor's own state) is `volatile` and runs at every VM entry.
 */
import { HarnessBug } from '../../../abi/errors.js';
import { ENTRY_FAIL, VMXERR } from '../../../abi/vm-errors.js';
import type { FieldName } from '../../../abi/vmcs-fields.js';
import type { VmxCapabilities } from '../capabilities.js';
import type { VmcsDescription } from '../description.js';
import type { VmxPcpu } from '../ports.js';
import { RULE_SET_WORDS } from '../vmcs.js';

/** Read access to a VMCS by slot; `low` and `high` never make a bigint. */
export interface VmcsView {
  low(slot: number): number;
  high(slot: number): number;
  get(slot: number): bigint;
}

/** What a rule may ask of the processor besides the VMCS. */
export type EntryCpu = Pick<VmxPcpu, 'capabilities' | 'memory' | 'registers' | 'vmx'>;

/** The SDM's groups of checks, in the order in which this processor makes them. */
export type RuleGroup = 'controls' | 'host-state' | 'guest-state';

/** How a failing rule shows: VMfailValid with an error number, or an exit with reason 33 and a qualification. */
export type RuleResult =
  | { readonly kind: 'vmfail'; readonly error: number }
  | { readonly kind: 'invalid-guest-state'; readonly qualification: number };

/** What an example of `breaks` needs besides VMCS fields: a CPU outside IA-32e mode, a lesser one, bytes in memory. */
export interface BreakSetting {
  readonly capabilities?: Partial<VmxCapabilities>;
  readonly longMode?: boolean;
  readonly memory?: readonly (readonly [hpa: bigint, value: bigint])[];
}

/** A field of which a rule looks at some bits of the low half only; a change of the others cannot matter to it. */
export interface FieldBits {
  readonly field: FieldName;
  readonly bits: number;
}

/** A field that a rule reads, all of it or some bits. */
export type Read = FieldName | FieldBits;

/** One row of the table. */
export interface EntryRule {
  /** The SDM's sentence, paraphrased. */
  readonly rule: string;
  readonly group: RuleGroup;
  readonly reads: readonly Read[];
  readonly volatile?: true;
  readonly holds: (v: VmcsView, cpu: EntryCpu) => boolean;
  readonly result: RuleResult;
  /** Fields that make this rule, and no earlier one, fail when written over the given valid VMCS. */
  readonly breaks: (valid: VmcsDescription) => VmcsDescription;
  readonly setting?: BreakSetting;
  /** An earlier rule refuses every VMCS that this one refuses, so this one is never the one reported. */
  readonly neverFirst?: true;
}

/** A row without what its table gives to all of its rows. */
export type RuleRow = Omit<EntryRule, 'group' | 'result'> & { readonly qualification?: number };

/** Rows about the control fields: VMfailValid with error 7. */
export function controlRules(rows: readonly RuleRow[]): EntryRule[] {
  const result = { kind: 'vmfail', error: VMXERR.VMXERR_ENTRY_INVALID_CONTROL_FIELD } as const;
  return rows.map((row) => ({ ...row, group: 'controls', result }));
}

/** Rows about the host-state area: VMfailValid with error 8. */
export function hostRules(rows: readonly RuleRow[]): EntryRule[] {
  const result = { kind: 'vmfail', error: VMXERR.VMXERR_ENTRY_INVALID_HOST_STATE_FIELD } as const;
  return rows.map((row) => ({ ...row, group: 'host-state', result }));
}

/** Rows about the guest-state area: an exit with reason 33. */
export function guestRules(rows: readonly RuleRow[]): EntryRule[] {
  return rows.map((row) => ({
    ...row,
    group: 'guest-state',
    result: {
      kind: 'invalid-guest-state',
      qualification: row.qualification ?? ENTRY_FAIL.ENTRY_FAIL_DEFAULT,
    },
  }));
}

/** Checks that the table fits the rule sets that a Vmcs keeps. @throws HarnessBug when it does not. */
export function limitRules(rules: readonly EntryRule[]): readonly EntryRule[] {
  if (rules.length > RULE_SET_WORDS * 32) throw new HarnessBug('too many entry-check rules');
  return rules;
}
