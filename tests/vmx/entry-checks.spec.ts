import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { VMCS_FIELDS, VMCS_FIELD_COUNT, VMCS_SLOT, type FieldName } from '../../abi/vmcs-fields.js';
import { DEFAULT_CAPABILITIES } from '../../emulator/vmx/capabilities.js';
import { validVmcs } from '../../emulator/vmx/description.js';
import {
  ENTRY_RULES,
  brokenRules,
  checkAll,
  checkChanged,
  sweep,
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
      const named = new Set<string>(
        rule.reads.map((read) => (typeof read === 'string' ? read : read.field)),
      );
      for (const slot of read)
        expect([rule.rule, named.has(VMCS_FIELDS[slot]!.name)]).toEqual([rule.rule, true]);
    }
  });
});

describe('a rule that names bits of a field looks at no other bit of its low half', () => {
  const rows = ENTRY_RULES.filter((rule) => rule.reads.some((read) => typeof read !== 'string'));
  it.each(rows)('$rule', (rule) => {
    const pcpu = settingOf(rule);
    for (const base of [validVmcs(), { ...validVmcs(), ...rule.breaks(validVmcs()) }]) {
      const vmcs = looseVmcs(base);
      const before = rule.holds(vmcs, pcpu);
      for (const field of new Set(rule.reads.map((r) => (typeof r === 'string' ? r : r.field)))) {
        const reads = rule.reads.filter((r) => (typeof r === 'string' ? r : r.field) === field);
        if (reads.some((r) => typeof r === 'string')) continue;
        const bits = reads.reduce((all, r) => all | (typeof r === 'string' ? 0 : r.bits), 0);
        const slot = VMCS_SLOT[field];
        const low = vmcs.low(slot);
        for (let bit = 0; bit < 32; bit++) {
          if ((bits & (1 << bit)) !== 0) continue;
          vmcs.setHalves(slot, low ^ (1 << bit), vmcs.high(slot));
          expect([field, bit, rule.holds(vmcs, pcpu)]).toEqual([field, bit, before]);
        }
        vmcs.setHalves(slot, low, vmcs.high(slot));
      }
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
  const hot = [
    'GUEST_RFLAGS',
    'PIN_BASED_VM_EXEC_CONTROL',
    'CPU_BASED_VM_EXEC_CONTROL',
    'GUEST_INTERRUPTIBILITY_INFO',
    'GUEST_IA32_DEBUGCTL',
  ] as const;
  const write = fc.oneof(
    fc
      .nat(VMCS_FIELD_COUNT - 1)
      .chain((slot) => fc.tuple(fc.constant(slot), fc.constantFrom(...values[slot]!))),
    // Single bits flipped in the fields of which rules name bits.
    fc
      .tuple(fc.constantFrom(...hot), fc.nat(31))
      .map(([name, bit]): [number, bigint] => [
        VMCS_SLOT[name],
        (validVmcs()[name] ?? 0n) ^ (1n << BigInt(bit)),
      ]),
  );

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

describe('a VM entry after an exit that the payload handled runs few checks', () => {
  const HOT: readonly [FieldName, bigint][] = [
    ['GUEST_RIP', 0xffff_ffff_8120_0002n],
    ['GUEST_RFLAGS', 0x246n],
    ['GUEST_INTERRUPTIBILITY_INFO', 8n],
    ['VMX_PREEMPTION_TIMER_VALUE', 5n],
    ['CPU_BASED_VM_EXEC_CONTROL', validVmcs().CPU_BASED_VM_EXEC_CONTROL! ^ 4n],
    ['PIN_BASED_VM_EXEC_CONTROL', validVmcs().PIN_BASED_VM_EXEC_CONTROL! ^ 0x80n],
  ];
  it('when only the fields that every handler writes have changed', () => {
    const vmcs = looseVmcs();
    checkChanged(vmcs, fakePcpu());
    for (const [name, value] of HOT) vmcs.write(name, value);
    sweep(vmcs);
    const pending = pendingRules(vmcs);
    expect(pending).toBeGreaterThan(0);
    expect(pending).toBeLessThan(ENTRY_RULES.length / 8);
  });

  it('and none but the volatile ones when the same values were written again', () => {
    const vmcs = looseVmcs();
    checkChanged(vmcs, fakePcpu());
    for (const field of VMCS_FIELDS) vmcs.set(field.slot, vmcs.get(field.slot));
    sweep(vmcs);
    expect(pendingRules(vmcs)).toBe(0);
  });
});

/** How many rules of the table a VMCS has pending; bits past the last rule mean nothing. */
function pendingRules(vmcs: Vmcs): number {
  const used = vmcs.pendingRules.subarray(0, Math.ceil(ENTRY_RULES.length / 32));
  return used.reduce((sum, word) => sum + popcount(word), 0);
}

function popcount(word: number): number {
  let count = 0;
  for (let rest = word >>> 0; rest !== 0; rest >>>= 1) count += rest & 1;
  return count;
}
