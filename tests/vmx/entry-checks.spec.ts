import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { VMCS_FIELDS, VMCS_FIELD_COUNT } from '../../abi/vmcs-fields.js';
import { DEFAULT_CAPABILITIES } from '../../emulator/vmx/capabilities.js';
import { validVmcs } from '../../emulator/vmx/description.js';
import {
  ENTRY_RULES,
  brokenRules,
  checkAll,
  checkChanged,
} from '../../emulator/vmx/entry-checks/evaluate.js';
import type { EntryRule } from '../../emulator/vmx/entry-checks/rule.js';
import { Vmcs } from '../../emulator/vmx/vmcs.js';
import { fakePcpu, looseVmcs, type FakePcpu } from './fake-pcpu.js';

function settingOf(rule: EntryRule): FakePcpu {
  const pcpu = {
    ...fakePcpu(),
    capabilities: { ...DEFAULT_CAPABILITIES, ...rule.setting?.capabilities },
  };
  if (rule.setting?.longMode === false) pcpu.registers.set('EFER', 0n);
  for (const [hpa, value] of rule.setting?.memory ?? []) pcpu.memory.writeU64(hpa, value);
  return pcpu;
}

describe('a VMCS as KVM sets one up passes every check of VM entry', () => {
  it('breaks no rule', () => {
    expect(brokenRules(looseVmcs(), fakePcpu()).map((rule) => rule.rule)).toEqual([]);
  });
});

describe.each(['controls', 'host-state', 'guest-state'] as const)('checks on %s', (group) => {
  const rows = ENTRY_RULES.filter((rule) => rule.group === group);
  it.each(rows)('$rule', (rule) => {
    const valid = validVmcs();
    const vmcs = looseVmcs({ ...valid, ...rule.breaks(valid) });
    const pcpu = settingOf(rule);
    expect(rule.holds(vmcs, pcpu)).toBe(false);
    const first = checkAll(vmcs, pcpu);
    if (rule.neverFirst === true)
      expect(ENTRY_RULES.indexOf(first!)).toBeLessThan(ENTRY_RULES.indexOf(rule));
    else expect(first?.rule).toBe(rule.rule);
    expect(checkChanged(vmcs, pcpu)).toBe(first);
  });
});

describe('the table', () => {
  it('checks controls before host state before guest state', () => {
    const order = ['controls', 'host-state', 'guest-state'];
    const groups = ENTRY_RULES.map((rule) => order.indexOf(rule.group));
    expect(groups).toEqual([...groups].sort((a, b) => a - b));
  });

  it('gives no two rules the same sentence in one group', () => {
    const titles = ENTRY_RULES.map((rule) => `${rule.group}: ${rule.rule}`);
    expect(new Set(titles).size).toBe(titles.length);
  });

  it('names every field that a rule reads', () => {
    for (const rule of ENTRY_RULES) {
      const read = new Set<number>();
      const watch = (slot: number): number => (read.add(slot), slot);
      for (const base of [validVmcs(), { ...validVmcs(), ...rule.breaks(validVmcs()) }]) {
        const vmcs = looseVmcs(base);
        rule.holds(
          {
            low: (slot) => vmcs.low(watch(slot)),
            high: (slot) => vmcs.high(watch(slot)),
            get: (slot) => vmcs.get(watch(slot)),
          },
          settingOf(rule),
        );
      }
      const named = new Set<string>(rule.reads);
      for (const slot of read)
        expect([rule.rule, named.has(VMCS_FIELDS[slot]!.name)]).toEqual([rule.rule, true]);
    }
  });
});

describe('checking only what changed gives the same answer as checking everything', () => {
  // Interesting values: those of valid and broken VMCSs, so that runs wander between many kinds of failure.
  const values = VMCS_FIELDS.map((field) => {
    const seen = new Set<bigint>([0n, validVmcs()[field.name] ?? 0n, 0xffff_ffff_ffff_ffffn]);
    for (const rule of ENTRY_RULES) {
      const value = rule.breaks(validVmcs())[field.name];
      if (value !== undefined) seen.add(value);
    }
    return [...seen];
  });
  const write = fc
    .nat(VMCS_FIELD_COUNT - 1)
    .chain((slot) => fc.tuple(fc.constant(slot), fc.constantFrom(...values[slot]!)));

  it('after any writes, from a valid VMCS', () => {
    fc.assert(
      fc.property(fc.array(fc.array(write, { maxLength: 4 }), { maxLength: 12 }), (rounds) => {
        const pcpu = fakePcpu();
        const vmcs = looseVmcs();
        for (const writes of rounds) {
          for (const [slot, value] of writes) vmcs.set(slot, value);
          expect(checkChanged(vmcs, pcpu)?.rule).toBe(checkAll(vmcs, pcpu)?.rule);
        }
      }),
      { numRuns: 300 },
    );
  });

  it('after breaking one rule and mending it again, and across a snapshot', () => {
    const pcpu = fakePcpu();
    const vmcs = looseVmcs();
    expect(checkChanged(vmcs, pcpu)).toBeUndefined();
    for (const rule of ENTRY_RULES.filter((row) => row.setting === undefined)) {
      const snapshot = vmcs.state();
      const bad = rule.breaks(validVmcs());
      for (const field of VMCS_FIELDS) {
        const value = bad[field.name];
        if (value !== undefined) vmcs.set(field.slot, value);
      }
      expect(checkChanged(vmcs, pcpu)?.rule).toBe(rule.rule);
      const copy = Vmcs.fromState(vmcs.state());
      expect(checkChanged(copy, pcpu)?.rule).toBe(rule.rule);
      vmcs.restore(snapshot);
      expect(checkChanged(vmcs, pcpu)).toBeUndefined();
    }
  });
});
