import { describe, expect, it } from 'vitest';
import { u64 } from '../../../../abi/uint.js';
import { REG } from '../../../../emulator/cpu/registers.js';
import { executeInstruction } from '../../../../emulator/vmx/root/instructions/index.js';
import {
  CS,
  DESCRIPTOR,
  GDT,
  SS,
  STACK,
  instruction,
  reg,
  stackOf,
  type Fixture,
} from '../fixture.js';
import { NON_CANONICAL, RAX, UD, GP0, NEXT, segment, gp, execute, rows } from './execute.js';

describe('segments', () => {
  const FS = 4;
  const withDescriptor =
    (descriptor: bigint) =>
    ({ memory }: Fixture): void =>
      memory.writeU64(u64(GDT + 0x20), descriptor);
  const to = (register: number) => [segment(register), reg(REG.RAX, 2)];
  // prettier-ignore
  rows([
    { name: 'MOV_TO_SEG', rule: 'CS is #UD', operands: to(1), pre: { RAX: u64(CS) }, outcome: UD },
    { name: 'MOV_TO_SEG', rule: 'DS takes null with any RPL', operands: to(3), pre: { RAX: 3n, DS: 0x18n }, post: { DS: 3n } },
    { name: 'MOV_TO_SEG', rule: 'a null FS clears the base', operands: to(FS), pre: { RAX: 0n, FS_BASE: 5n }, post: { FS_BASE: 0n } },
    { name: 'MOV_TO_SEG', rule: 'FS takes its base from the descriptor', operands: to(FS), pre: { RAX: 0x20n }, arrange: withDescriptor(0x12cf_9334_5678_ffffn), post: { FS: 0x20n, FS_BASE: 0x1234_5678n } },
    { name: 'MOV_TO_SEG', rule: 'beyond the limit is #GP(selector)', operands: to(3), pre: { RAX: 0x50n }, outcome: gp(0x50) },
    { name: 'MOV_TO_SEG', rule: 'an absent data segment is #NP(selector)', operands: to(3), pre: { RAX: 0x20n }, arrange: withDescriptor(DESCRIPTOR.DATA & ~(1n << 47n)), outcome: { kind: 'fault', vector: 11, errorCode: 0x20 } },
    { name: 'MOV_TO_SEG', rule: 'an absent stack segment is #SS(selector)', operands: to(2), pre: { RAX: 0x20n }, arrange: withDescriptor(DESCRIPTOR.DATA & ~(1n << 47n)), outcome: { kind: 'fault', vector: 12, errorCode: 0x20 } },
    { name: 'MOV_TO_SEG', rule: 'SS must be writable', operands: to(2), pre: { RAX: 0x20n }, arrange: withDescriptor(DESCRIPTOR.READ_ONLY), outcome: gp(0x20) },
    { name: 'MOV_TO_SEG', rule: 'a null SS needs RPL 0 at CPL 0', operands: to(2), pre: { RAX: 3n }, outcome: GP0 },
    { name: 'MOV_TO_SEG', rule: 'a selector whose RPL exceeds DPL is #GP(selector)', operands: to(3), pre: { RAX: u64(SS | 3) }, outcome: gp(SS) },
    { name: 'MOV_FROM_SEG', rule: 'a register is zero-extended', operands: [RAX, segment(1)], pre: { RAX: 1n << 40n }, post: { RAX: u64(CS) } },
    { name: 'VERW', rule: 'sets ZF for writable data', operands: [RAX], pre: { RAX: u64(SS) }, post: { RFLAGS: 0x42n } },
    { name: 'VERW', rule: 'clears ZF for code', operands: [RAX], pre: { RAX: u64(CS), RFLAGS: 0x42n }, post: { RFLAGS: 0x2n } },
    { name: 'VERW', rule: 'clears ZF for null', operands: [RAX], pre: { RAX: 0n, RFLAGS: 0x42n }, post: { RFLAGS: 0x2n } },
    { name: 'VERR', rule: 'sets ZF for readable code', operands: [RAX], pre: { RAX: u64(CS) }, post: { RFLAGS: 0x42n } },
    { name: 'RDGSBASE', rule: 'of 32 bits clears the high half', operands: [reg(REG.RAX, 4)], pre: { GS_BASE: 0x1_2345_6789n }, post: { RAX: 0x2345_6789n } },
    { name: 'RDFSBASE', rule: 'without CR4.FSGSBASE is #UD', operands: [RAX], pre: { CR4: 0x20n }, outcome: UD },
    { name: 'WRFSBASE', rule: 'a non-canonical base is #GP(0)', operands: [RAX], pre: { RAX: NON_CANONICAL }, outcome: GP0 },
    { name: 'WRGSBASE', rule: 'sets the base', operands: [RAX], pre: { RAX: 0x1000n }, post: { GS_BASE: 0x1000n } },
  ]);

  it('MOV SS begins a shadow, MOV DS does not', () => {
    const shadow = (register: number) =>
      execute('MOV_TO_SEG', to(register), { pre: { RAX: u64(SS) } }).f.pcpu.blocking.movSs;
    expect([shadow(2), shadow(3)]).toEqual([true, false]);
  });

  it('PUSH FS and POP FS move eight bytes', () => {
    const { f } = execute('PUSH_SEG', [segment(FS)], { pre: { FS: 0x18n } });
    expect([f.pcpu.registers.get('RSP'), ...stackOf(f, 1)]).toEqual([u64(STACK - 8), 0x18n]);
    f.pcpu.registers.set('FS', 0n);
    expect(executeInstruction(f.pcpu, instruction('POP_SEG', [segment(FS)]))).toEqual(NEXT);
    expect([f.pcpu.registers.get('RSP'), f.pcpu.registers.get('FS')]).toEqual([u64(STACK), 0x18n]);
  });
});
