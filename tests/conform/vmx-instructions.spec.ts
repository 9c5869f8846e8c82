import { afterEach, describe, expect, it, vi } from 'vitest';
import { SecondMachine } from '../../emulator/conform/second-machine.js';
import { VMX_INSTRUCTION_CASES } from '../../emulator/conform/vmx-instruction-cases.js';
import { compareVmxInstructions } from '../../emulator/conform/vmx-instructions.js';
import { Vmcs } from '../../emulator/vmx/vmcs.js';
import { BOCHS, HAS_BOCHS } from './bochs-here.js';
import { unexplained } from './unexplained.js';

afterEach(() => {
  vi.restoreAllMocks();
});

describe.skipIf(!HAS_BOCHS)(`VMX instructions of root operation ${BOCHS}`, () => {
  const machine = HAS_BOCHS ? new SecondMachine() : undefined;

  it('end the same, with the same number, and deliver the same value', () => {
    const results = compareVmxInstructions(machine!);
    expect(unexplained(results)).toEqual([]);
    expect(results).toHaveLength(VMX_INSTRUCTION_CASES.length);
  });

  it('differ when the model’s VMWRITE keeps 32 bits of every field', () => {
    const { set } = Object.getOwnPropertyDescriptors(Vmcs.prototype);
    vi.spyOn(Vmcs.prototype, 'set').mockImplementation(function (this: Vmcs, slot, value) {
      set.value!.call(this, slot, value & 0xffff_ffffn);
    });
    const whole = VMX_INSTRUCTION_CASES.filter(({ title }) => title === 'VMWRITE and VMREAD');
    expect(unexplained(compareVmxInstructions(machine!, whole))).toEqual([
      'VMWRITE and VMREAD: answers: model VMsucceed; VMsucceed 0x56789abc, Bochs VMsucceed; VMsucceed 0x123456789abc',
    ]);
  });
});
