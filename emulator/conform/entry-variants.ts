/**
 * Attempts that no row of the entry checks names: every single bit of the checked fields, and random mixtures of bad values.
 *
 * Source: the fields that the entry checks read; kvm-unit-tests goes through the control registers, EFER and PAT in the
 * same way.
 * Invariant: no attempt lets a VM exit load a host state in which the monitor cannot go on, or enters a state that nothing
 * ends: BITS and SKIPPED say what is left alone.
 */
import type { Random } from '../clock/random.js';
import type { VmxCapabilities } from '../vmx/capabilities.js';
import type { VmcsDescription } from '../vmx/description.js';
import { ENTRY_RULES } from '../vmx/entry-checks/evaluate.js';
import { VMCS_FIELDS, slotBits, type FieldName } from '../../abi/vmcs-fields.js';
import type { EntryRule } from '../vmx/entry-checks/rule.js';
import { baseVmcs } from './base-vmcs.js';
import type { Attempt } from './entry-rows.js';

/** Fields of which only these bits are turned over: the others would lead the monitor or the guest astray. */
const BITS: Readonly<Partial<Record<FieldName, bigint>>> = {
  HOST_RIP: 0xffff_8000_0000_0000n,
  HOST_CR3: 0xffff_ff00_0000_0018n,
  HOST_CR4: 0xffff_ffff_ffdf_ffdfn, // the monitor runs with user pages unprotected from itself
  HOST_GDTR_BASE: 0xffff_8000_0000_0000n,
  HOST_IDTR_BASE: 0xffff_8000_0000_0000n,
  EPT_POINTER: 0xffff_ff00_0000_0fffn,
  VM_EXIT_MSR_STORE_ADDR: 0n,
  VM_EXIT_MSR_LOAD_ADDR: 0n,
  VM_ENTRY_MSR_LOAD_ADDR: 0n,
  // MSR lists: bit 0 would make one of zeroes.
  VM_EXIT_MSR_STORE_COUNT: 0n,
  VM_EXIT_MSR_LOAD_COUNT: 0n,
  VM_ENTRY_MSR_LOAD_COUNT: 0n,
  HOST_RSP: 0n,
};

/** Turns over every bit of every field that can be written, whether or not the model checks it. */
export function bitAttempts(capabilities: VmxCapabilities): Attempt[] {
  const base = baseVmcs(capabilities);
  return VMCS_FIELDS.filter(({ readOnly }) => !readOnly).flatMap(({ name, slot }) => {
    const mask = BITS[name] ?? (1n << 64n) - 1n;
    return Array.from({ length: slotBits[slot]! }, (_, bit): Attempt | null => {
      const flip = 1n << BigInt(bit);
      if ((mask & flip) === 0n) return null;
      const overrides: VmcsDescription = { [name]: (base[name] ?? 0n) ^ flip };
      return { title: `${name} with bit ${bit} turned over`, overrides, memory: [] };
    }).filter((attempt) => attempt !== null);
  });
}

/** Mixtures of the overrides of two or three rows, which show in what order and in what group checks are made. */
export function mixedAttempts(
  capabilities: VmxCapabilities,
  count: number,
  random: Random,
): Attempt[] {
  const base = baseVmcs(capabilities);
  const rows = ENTRY_RULES.filter(({ setting }) => setting === undefined);
  return Array.from({ length: count }, (): Attempt => {
    // The SDM leaves the order of checks within a group open: only rules that end alike are mixed within one.
    const drawn = Array.from(
      { length: 2 + random.below(2) },
      () => rows[random.below(rows.length)]!,
    );
    const first = drawn[0]!;
    const mixed = drawn.filter((rule) => rule.group !== first.group || endsAlike(rule, first));
    const overrides = Object.assign(
      {},
      ...mixed.map((rule) => rule.breaks(base)),
    ) as VmcsDescription;
    return { title: mixed.map(({ rule }) => rule).join(' AND '), overrides, memory: [] };
  });
}

function endsAlike(a: EntryRule, b: EntryRule): boolean {
  return JSON.stringify(a.result) === JSON.stringify(b.result);
}
