import { describe, expect, it } from 'vitest';
import { u64 } from '../../../../abi/uint.js';
import type { Operand } from '../../../../emulator/cpu/decode.js';
import { REG } from '../../../../emulator/cpu/registers.js';
import type { VmxInstruction, VmxResult } from '../../../../emulator/vmx/vmx-instructions.js';
import { DATA, at, reg, type Fixture } from '../fixture.js';
import { GP0, NEXT, RAX, UD, execute, type Arrangement } from './execute.js';

describe('VMX instructions', () => {
  const vmx = (
    name: string,
    operands: readonly Operand[],
    given: Arrangement & { result?: VmxResult } = {},
  ) => {
    const calls: VmxInstruction[] = [];
    const seen: string[] = [];
    const done = execute(name, operands, {
      ...given,
      options: {
        ports: {
          vmx: {
            execute: ({ registers }, called) => {
              calls.push(called);
              registers.set('RFLAGS', 2n);
              return given.result ?? { kind: 'succeed' };
            },
          },
        },
        events: { onVmxInstruction: (called, { kind }) => seen.push(`${called.name} ${kind}`) },
      },
    });
    return { ...done, calls, seen };
  };
  const pointer = ({ memory }: Fixture): void => {
    memory.writeU64(u64(DATA), 0x6000n);
    memory.writeU64(u64(DATA + 8), 0x77n);
  };

  // prettier-ignore
  it.each<{ rule: string; operands: readonly Operand[]; call: VmxInstruction }>([
    { rule: 'VMREAD gets the encoding', operands: [RAX, reg(REG.RBX)], call: { name: 'VMREAD', encoding: 0x4402n } },
    { rule: 'VMWRITE gets encoding and value', operands: [reg(REG.RBX), at(DATA)], call: { name: 'VMWRITE', encoding: 0x4402n, value: 0x6000n } },
    { rule: 'VMPTRLD gets the pointer in memory', operands: [at(DATA)], call: { name: 'VMPTRLD', pointer: 0x6000n } },
    { rule: 'VMCLEAR gets the pointer in memory', operands: [at(DATA)], call: { name: 'VMCLEAR', pointer: 0x6000n } },
    { rule: 'VMXON gets the pointer in memory', operands: [at(DATA)], call: { name: 'VMXON', pointer: 0x6000n } },
    { rule: 'INVEPT gets type and descriptor', operands: [reg(REG.RBX), at(DATA)], call: { name: 'INVEPT', type: 0x4402n, descriptor: [0x6000n, 0x77n] } },
    { rule: 'INVVPID gets type and descriptor', operands: [reg(REG.RBX), at(DATA)], call: { name: 'INVVPID', type: 0x4402n, descriptor: [0x6000n, 0x77n] } },
    { rule: 'VMXOFF has no operand', operands: [], call: { name: 'VMXOFF' } },
    { rule: 'VMCALL has no operand', operands: [], call: { name: 'VMCALL' } },
  ])('$rule', ({ operands, call }) => {
    expect(vmx(call.name, operands, { pre: { RBX: 0x4402n }, arrange: pointer }).calls).toEqual([call]);
  });

  it.each<{ rule: string; result: VmxResult; outcome: object }>([
    { rule: 'VMfailInvalid goes on', result: { kind: 'vmfail-invalid' }, outcome: NEXT },
    { rule: 'VMfailValid goes on', result: { kind: 'vmfail-valid', error: 12 }, outcome: NEXT },
    {
      rule: 'an exception is a fault',
      result: { kind: 'exception', vector: 13, errorCode: 0 },
      outcome: GP0,
    },
  ])('$rule, stores nothing and is reported', ({ result, outcome }) => {
    const done = vmx('VMREAD', [RAX, reg(REG.RBX)], { result, pre: { RAX: 5n } });
    expect(done.outcome).toEqual(outcome);
    expect([done.f.pcpu.registers.get('RAX'), done.seen]).toEqual([5n, [`VMREAD ${result.kind}`]]);
  });

  const read = (value: bigint, destination: Operand, arrange?: (f: Fixture) => void) =>
    vmx('VMREAD', [destination, reg(REG.RBX)], {
      result: { kind: 'succeed', value },
      pre: { RFLAGS: 0x43n },
      ...(arrange === undefined ? {} : { arrange }),
    });

  it('VMREAD stores into a register or memory', () => {
    expect(read(9n, RAX).f.pcpu.registers.get('RAX')).toBe(9n);
    expect(read(9n, at(DATA)).f.memory.readU64(u64(DATA))).toBe(9n);
  });

  it('a VMREAD whose store faults leaves RFLAGS as they were', () => {
    const { f, outcome } = read(9n, at(DATA), ({ space }) => space.refused.set(DATA, 'read-only'));
    expect(outcome).toMatchObject({ kind: 'fault', vector: 14, errorCode: 3 });
    expect(f.pcpu.registers.get('RFLAGS')).toBe(0x43n);
  });

  it('VMPTRST stores the pointer', () => {
    const { f } = vmx('VMPTRST', [at(DATA)], { result: { kind: 'succeed', value: 0x6000n } });
    expect(f.memory.readU64(u64(DATA))).toBe(0x6000n);
  });

  it('VMFUNC is #UD in root operation', () => {
    expect(vmx('VMFUNC', []).outcome).toEqual(UD);
  });

  it('outside VMX operation all but VMXON are #UD and touch no operand', () => {
    const off = ({ pcpu, space }: Fixture): void => {
      pcpu.vmx.mode = 'off';
      space.refused.set(DATA, 'page-fault');
    };
    expect(vmx('VMPTRLD', [at(DATA)], { arrange: off }).outcome).toEqual(UD);
    expect(vmx('VMXON', [at(DATA)], { arrange: off }).outcome).toMatchObject({ vector: 14 });
  });

  it('an operand that cannot be read is #PF and executes nothing', () => {
    const { outcome, calls } = vmx('VMWRITE', [RAX, at(DATA)], {
      arrange: ({ space }) => space.refused.set(DATA, 'page-fault'),
    });
    expect(outcome).toMatchObject({ kind: 'fault', vector: 14 });
    expect(calls).toEqual([]);
  });
});
