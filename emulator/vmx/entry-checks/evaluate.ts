/**
 * Runs the checks of VM entry: all of them, or only those that a write since their last success can have changed.
 *
 * Source: SDM, "VM Entries": controls, then host state, then guest state; inside a group the SDM leaves the order open and
 * this processor checks in the order of the table.
 * Invariant: checkChanged() reports the same first failing rule as checkAll(), whatever was written in between.
 */
import { VMCS_FIELDS, VMCS_SLOT } from '../../../abi/vmcs-fields.js';
import { RULE_SET_WORDS, VMCS_FLAG, type Vmcs } from '../vmcs.js';
import { APIC_CONTROL_RULES } from './apic-controls.js';
import { ENTRY_CONTROL_RULES } from './entry-controls.js';
import { EXECUTION_CONTROL_RULES } from './execution-controls.js';
import { EXIT_CONTROL_RULES } from './exit-controls.js';
import { GUEST_NON_REGISTER_RULES } from './guest-non-register.js';
import { GUEST_REGISTER_RULES } from './guest-registers.js';
import { GUEST_RIP_RULES } from './guest-rip.js';
import { GUEST_SEGMENT_RULES } from './guest-segments.js';
import { GUEST_SYSTEM_SEGMENT_RULES } from './guest-system-segments.js';
import { GUEST_TABLE_RULES } from './guest-tables.js';
import { HOST_STATE_RULES } from './host-state.js';
import { TRANSLATION_CONTROL_RULES } from './translation-controls.js';
import { limitRules, type EntryCpu, type EntryRule, type VmcsView } from './rule.js';

/** Every check of VM entry, in the order in which this processor makes them. */
export const ENTRY_RULES: readonly EntryRule[] = limitRules([
  ...EXECUTION_CONTROL_RULES,
  ...APIC_CONTROL_RULES,
  ...TRANSLATION_CONTROL_RULES,
  ...EXIT_CONTROL_RULES,
  ...ENTRY_CONTROL_RULES,
  ...HOST_STATE_RULES,
  ...GUEST_REGISTER_RULES,
  ...GUEST_SEGMENT_RULES,
  ...GUEST_SYSTEM_SEGMENT_RULES,
  ...GUEST_RIP_RULES,
  ...GUEST_NON_REGISTER_RULES,
  ...GUEST_TABLE_RULES,
]);

/** The rules that a change of some bits of a slot's low half, or of any bit of its high half, can affect. */
interface Readers {
  readonly bits: number;
  readonly rules: Uint32Array;
}

const ALL_BITS = -1;
const VOLATILE = new Uint32Array(RULE_SET_WORDS);
/** For each slot, its readers, grouped by the bits they look at. */
const READERS: readonly Readers[][] = VMCS_FIELDS.map(() => []);
ENTRY_RULES.forEach((rule, index) => {
  for (const read of rule.reads) {
    const bits = typeof read === 'string' ? ALL_BITS : read.bits;
    const groups = READERS[VMCS_SLOT[typeof read === 'string' ? read : read.field]]!;
    let group = groups.find((one) => one.bits === bits);
    if (group === undefined) {
      group = { bits, rules: new Uint32Array(RULE_SET_WORDS) };
      groups.push(group);
    }
    group.rules[index >>> 5]! |= 1 << (index & 31);
  }
  if (rule.volatile === true) VOLATILE[index >>> 5]! |= 1 << (index & 31);
});
/** The conditions alone: rules differ in shape, and this is looked at on every VM entry. */
const CONDITIONS = ENTRY_RULES.map(({ holds }) => holds);

/** Makes VM entry forget one rule, so that a comparison with another machine can be seen to notice; undone by the result. */
export function forgetRule(rule: EntryRule): () => void {
  const index = ENTRY_RULES.indexOf(rule);
  CONDITIONS[index] = () => true;
  return () => {
    CONDITIONS[index] = rule.holds;
  };
}

const USED_WORDS = Math.ceil(ENTRY_RULES.length / 32);
/** Fields whose change makes the register image of the host-state area stale. */
const SHAPES_HOST_IMAGE = Uint8Array.from(VMCS_FIELDS, (field) =>
  field.type === 'host' || field.name === 'VM_EXIT_CONTROLS' || field.name === 'VM_ENTRY_CONTROLS'
    ? 1
    : 0,
);

/** The first rule that a VMCS breaks, undefined when it passes. */
export function checkAll(v: VmcsView, cpu: EntryCpu): EntryRule | undefined {
  return ENTRY_RULES.find((rule) => !rule.holds(v, cpu));
}

/** Every rule that a VMCS breaks. */
export function brokenRules(v: VmcsView, cpu: EntryCpu): EntryRule[] {
  return ENTRY_RULES.filter((rule) => !rule.holds(v, cpu));
}

/** Empties the list of written slots and remembers which rules and caches the changed ones touch. */
export function sweep(vmcs: Vmcs): void {
  const { written, writtenCount, flags, words, checked, pendingRules } = vmcs;
  const count = writtenCount[0]!;
  for (let i = 0; i < count; i++) {
    const slot = written[i]!;
    flags[slot]! &= ~VMCS_FLAG.WRITTEN;
    const low = words[2 * slot]!;
    const high = words[2 * slot + 1]!;
    const lowChange = checked[2 * slot]! ^ low;
    const highChange = checked[2 * slot + 1]! ^ high;
    if ((lowChange | highChange) === 0) continue;
    checked[2 * slot] = low;
    checked[2 * slot + 1] = high;
    if (SHAPES_HOST_IMAGE[slot] === 1) vmcs.hostImage = null;
    for (const { bits, rules } of READERS[slot]!) {
      if ((lowChange & bits) === 0 && highChange === 0) continue;
      for (let word = 0; word < USED_WORDS; word++) pendingRules[word]! |= rules[word]!;
    }
  }
  writtenCount[0] = 0;
}

/** The first rule that a VMCS breaks, running only rules that can have changed since they last held. */
export function checkChanged(vmcs: Vmcs, cpu: EntryCpu): EntryRule | undefined {
  sweep(vmcs);
  const { pendingRules } = vmcs;
  for (let word = 0; word < USED_WORDS; word++) {
    let set = pendingRules[word]! | VOLATILE[word]!;
    while (set !== 0) {
      const low = set & -set;
      const index = (word << 5) + 31 - Math.clz32(low);
      const holds = CONDITIONS[index];
      if (holds === undefined) break; // bits past the last rule are set in a new VMCS
      if (!holds(vmcs, cpu)) {
        pendingRules[word] = set;
        return ENTRY_RULES[index];
      }
      set &= ~low;
    }
    pendingRules[word] = 0;
  }
  return undefined;
}
