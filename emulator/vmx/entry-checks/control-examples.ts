/**
 * What the rows on VM-execution controls share: examples that set a control, and rows for fields that hold a page address.
 *
 * Source: SDM, "Checks on VMX Controls" > "VM-Execution Control Fields".
 */
import { VMCS_SLOT, type FieldName } from '../../../abi/vmcs-fields.js';
import { VALID_VMCS_PAGES, type VmcsDescription } from '../description.js';
import type { Read, RuleRow } from './rule.js';
import {
  SECONDARY_READS,
  isWithinWidth,
  primary,
  primaryBits,
  secondary,
  withBits,
  withoutBits,
} from './values.js';

const F = VMCS_SLOT;
const { spare } = VALID_VMCS_PAGES;

/** The valid primary controls with bits set. */
export const setPrimary = (valid: VmcsDescription, ...bits: number[]): VmcsDescription => ({
  CPU_BASED_VM_EXEC_CONTROL: withBits(valid, 'CPU_BASED_VM_EXEC_CONTROL', ...bits),
});

/** The valid primary controls with bits cleared. */
export const clearPrimary = (valid: VmcsDescription, ...bits: number[]): VmcsDescription => ({
  CPU_BASED_VM_EXEC_CONTROL: withoutBits(valid, 'CPU_BASED_VM_EXEC_CONTROL', ...bits),
});

/** The valid secondary controls with bits set. */
export const setSecondary = (valid: VmcsDescription, ...bits: number[]): VmcsDescription => ({
  SECONDARY_VM_EXEC_CONTROL: withBits(valid, 'SECONDARY_VM_EXEC_CONTROL', ...bits),
});

/** The valid secondary controls with bits cleared. */
export const clearSecondary = (valid: VmcsDescription, ...bits: number[]): VmcsDescription => ({
  SECONDARY_VM_EXEC_CONTROL: withoutBits(valid, 'SECONDARY_VM_EXEC_CONTROL', ...bits),
});

/** A control that, when 1, makes a field the address of a page. */
export function pageRows(
  control: string,
  kind: 'primary' | 'secondary',
  bit: number,
  names: readonly FieldName[],
): RuleRow[] {
  const isSet = kind === 'primary' ? primary : secondary;
  return names.flatMap((name): RuleRow[] => {
    const slot = F[name];
    const reads =
      kind === 'primary' ? [primaryBits(bit), name] : ([...SECONDARY_READS, name] as const);
    const on = (valid: VmcsDescription): VmcsDescription =>
      kind === 'primary' ? setPrimary(valid, bit) : setSecondary(valid, bit);
    // A second page field of the same control must be legal in the example.
    const others = Object.fromEntries(names.map((other) => [other, spare])) as VmcsDescription;
    return [
      {
        rule: `if ${control} is 1, bits 11:0 of ${name} must be 0`,
        reads,
        holds: (v) => !isSet(v, bit) || (v.low(slot) & 0xfff) === 0,
        breaks: (valid) => ({ ...on(valid), ...others, [name]: spare | 0x10n }),
      },
      {
        rule: `if ${control} is 1, ${name} must not set bits beyond the physical-address width`,
        reads,
        holds: (v, cpu) => !isSet(v, bit) || isWithinWidth(v, slot, cpu),
        breaks: (valid) => ({ ...on(valid), ...others, [name]: 1n << 46n }),
      },
    ];
  });
}

/** If the first control is 1, the second must have the given value. */
export function needs(
  rule: string,
  reads: readonly Read[],
  holds: RuleRow['holds'],
  breaks: RuleRow['breaks'],
): RuleRow {
  return { rule, reads, holds, breaks };
}
