import { describe, expect, it } from 'vitest';
import { REG } from '../../../../emulator/cpu/registers.js';
import { executeInstruction } from '../../../../emulator/vmx/root/instructions/index.js';
import { instruction, reg } from '../fixture.js';
import { NON_CANONICAL, RAX, UD, GP0, NEXT, control, execute, rows } from './execute.js';

describe('control registers', () => {
  const to = (register: number) => [control(register), RAX];
  const from = (register: number) => [RAX, control(register)];
  // prettier-ignore
  rows([
    { name: 'MOV_TO_CR', rule: 'CR0.ET stays 1', operands: to(0), pre: { RAX: 0x8001_0021n }, post: { CR0: 0x8001_0031n } },
    { name: 'MOV_TO_CR', rule: 'CR0[63:32] must be 0', operands: to(0), pre: { RAX: 0x1_8001_0031n }, outcome: GP0 },
    { name: 'MOV_TO_CR', rule: 'CR0.PG needs PE', operands: to(0), pre: { RAX: 0x8001_0030n }, outcome: GP0 },
    { name: 'MOV_TO_CR', rule: 'CR0.NW needs CD', operands: to(0), pre: { RAX: 0xa001_0031n }, outcome: GP0 },
    { name: 'MOV_TO_CR', rule: 'CR0.NE is fixed in VMX operation', operands: to(0), pre: { RAX: 0x8001_0011n }, outcome: GP0 },
    { name: 'MOV_TO_CR', rule: 'CR0.WP cannot be cleared while CR4.CET is set', operands: to(0), pre: { RAX: 0x8000_0031n, CR4: 0x80_2020n }, outcome: GP0 },
    { name: 'MOV_TO_CR', rule: 'CR2 takes anything', operands: to(2), pre: { RAX: NON_CANONICAL }, post: { CR2: NON_CANONICAL } },
    { name: 'MOV_TO_CR', rule: 'CR3 beyond MAXPHYADDR is #GP(0)', operands: to(3), pre: { RAX: 1n << 46n }, outcome: GP0, post: { CR3: 0x7000n } },
    { name: 'MOV_TO_CR', rule: 'CR3 bit 63 is #GP(0) without PCIDs', operands: to(3), pre: { RAX: (1n << 63n) | 0x7000n }, outcome: GP0 },
    { name: 'MOV_TO_CR', rule: 'CR3 bit 63 is not kept with PCIDs', operands: to(3), pre: { CR4: 0x2_2020n, RAX: (1n << 63n) | 0x6001n }, post: { CR3: 0x6001n } },
    { name: 'MOV_TO_CR', rule: 'CR4.PAE cannot be cleared', operands: to(4), pre: { RAX: 0x2040n }, outcome: GP0 },
    { name: 'MOV_TO_CR', rule: 'CR4.VMXE is fixed in VMX operation', operands: to(4), pre: { RAX: 0x60n }, outcome: GP0 },
    { name: 'MOV_TO_CR', rule: 'a reserved bit of CR4 is #GP(0)', operands: to(4), pre: { RAX: 0x8000_2060n }, outcome: GP0 },
    { name: 'MOV_TO_CR', rule: 'CR4.LA57 cannot change in 64-bit mode', operands: to(4), pre: { RAX: 0x3060n }, outcome: GP0 },
    { name: 'MOV_TO_CR', rule: 'CR4.PCIDE needs a CR3 without PCID', operands: to(4), pre: { RAX: 0x2_2060n, CR3: 0x7001n }, outcome: GP0 },
    { name: 'MOV_TO_CR', rule: 'CR4.CET needs CR0.WP', operands: to(4), pre: { RAX: 0x80_2060n, CR0: 0x8000_0031n }, outcome: GP0 },
    { name: 'MOV_TO_CR', rule: 'CR4 takes a legal value', operands: to(4), pre: { RAX: 0x80_2060n }, post: { CR4: 0x80_2060n } },
    { name: 'MOV_TO_CR', rule: 'CR8 above 15 is #GP(0)', operands: to(8), pre: { RAX: 16n }, outcome: GP0 },
    { name: 'MOV_TO_CR', rule: 'CR1 does not exist', operands: to(1), outcome: UD },
    { name: 'MOV_FROM_CR', rule: 'CR1 does not exist', operands: from(1), outcome: UD },
    { name: 'MOV_FROM_CR', rule: 'CR3', operands: from(3), post: { RAX: 0x7000n } },
    { name: 'CLTS', rule: 'clears CR0.TS', pre: { CR0: 0x8001_0039n }, post: { CR0: 0x8001_0031n } },
    { name: 'LMSW', rule: 'cannot clear PE', operands: [RAX], pre: { RAX: 0x8n }, post: { CR0: 0x8001_0039n } },
    { name: 'SMSW', rule: 'a 32-bit register gets all of CR0', operands: [reg(REG.RAX, 4)], post: { RAX: 0x8001_0031n } },
  ]);

  it('CR8 is bits 7:4 of the task priority', () => {
    const { f } = execute('MOV_TO_CR', to(8), { pre: { RAX: 0xbn } });
    expect(f.pcpu.apic.tpr).toBe(0xb0);
    executeInstruction(f.pcpu, instruction('MOV_FROM_CR', [reg(REG.RBX), control(8)]));
    expect(f.pcpu.registers.get('RBX')).toBe(0xbn);
  });

  it('a load of CR3 activates its address space; one that cannot be modelled stops', () => {
    const { f } = execute('MOV_TO_CR', to(3), { pre: { RAX: 0x6000n } });
    expect(f.space.activated).toEqual([0x6000n]);
    const refused = execute('MOV_TO_CR', to(3), {
      pre: { RAX: 0x6000n },
      arrange: ({ space }) => (space.refuseActivation = 'not identity'),
    });
    expect(refused.outcome).toMatchObject({ kind: 'stop', reason: { kind: 'unmodelled' } });
    expect(refused.f.pcpu.registers.get('CR3')).toBe(0x7000n);
  });

  it('clearing a fixed bit is legal outside VMX operation', () => {
    const { outcome } = execute('MOV_TO_CR', to(4), {
      pre: { RAX: 0x60n },
      arrange: ({ pcpu }) => (pcpu.vmx.mode = 'off'),
    });
    expect(outcome).toEqual(NEXT);
  });
});
