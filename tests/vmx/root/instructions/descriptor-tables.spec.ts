import { describe, expect, it } from 'vitest';
import { u64 } from '../../../../abi/uint.js';
import { REG } from '../../../../emulator/cpu/registers.js';
import { DATA, GDT, TR, at, reg, type Fixture } from '../fixture.js';
import { NON_CANONICAL, RAX, GP0, gp, execute, rows } from './execute.js';

describe('descriptor tables', () => {
  const writeTss =
    (bits = 0n) =>
    ({ memory }: Fixture): void => {
      memory.writeU64(u64(GDT + TR), 0x0000_8900_3000_0067n ^ bits);
      memory.writeU64(u64(GDT + TR + 8), 0x1n);
    };
  const pseudo =
    (base: bigint) =>
    ({ memory }: Fixture): void => {
      memory.writeU16(u64(DATA), 0x123);
      memory.writeU64(u64(DATA + 2), base);
    };
  const AX = reg(REG.RAX, 2);
  // prettier-ignore
  rows([
    { name: 'LGDT', rule: 'limit, then base', operands: [at(DATA)], arrange: pseudo(0x4000n), post: { GDTR_LIMIT: 0x123n, GDTR_BASE: 0x4000n } },
    { name: 'LIDT', rule: 'limit, then base', operands: [at(DATA)], arrange: pseudo(0x4000n), post: { IDTR_LIMIT: 0x123n, IDTR_BASE: 0x4000n } },
    { name: 'LIDT', rule: 'a non-canonical base is #GP(0)', operands: [at(DATA)], arrange: pseudo(NON_CANONICAL), outcome: GP0, post: { IDTR_LIMIT: 0xfffn } },
    { name: 'LGDT', rule: 'an operand across an absent page is #PF there', operands: [at(0x5ffc)], arrange: ({ space }) => space.refused.set(0x6000, 'page-fault'), outcome: { kind: 'fault', vector: 14, errorCode: 0, address: 0x6000n } },
    { name: 'STR', rule: 'a 64-bit register is zero-extended', operands: [RAX], pre: { RAX: ~0n & 0xffff_ffff_ffff_ffffn }, post: { RAX: u64(TR) } },
    { name: 'SLDT', rule: 'is null', operands: [RAX], pre: { RAX: 5n }, post: { RAX: 0n } },
    { name: 'LLDT', rule: 'of null', operands: [AX], pre: { RAX: 0n }, post: { LDTR: 0n } },
    { name: 'LLDT', rule: 'of an LDT stops', operands: [AX], pre: { RAX: 0x20n }, outcome: { kind: 'stop' } },
    { name: 'LTR', rule: 'loads the 64-bit base and the limit', operands: [AX], pre: { RAX: u64(TR), TR: 0n }, arrange: writeTss(), post: { TR: u64(TR), TR_BASE: 0x1_0000_3000n, TR_LIMIT: 0x67n } },
    { name: 'LTR', rule: 'of null is #GP(0)', operands: [AX], pre: { RAX: 3n }, outcome: GP0 },
    { name: 'LTR', rule: 'of a busy TSS is #GP(selector)', operands: [AX], pre: { RAX: u64(TR) }, arrange: writeTss(0x200_0000_0000n), outcome: gp(TR) },
    { name: 'LTR', rule: 'of an absent TSS is #NP(selector)', operands: [AX], pre: { RAX: u64(TR) }, arrange: writeTss(0x8000_0000_0000n), outcome: { kind: 'fault', vector: 11, errorCode: TR } },
    { name: 'LTR', rule: 'whose high half is beyond the limit is #GP(selector)', operands: [AX], pre: { RAX: u64(TR), GDTR_LIMIT: 0x4en }, arrange: writeTss(), outcome: gp(TR) },
    { name: 'LTR', rule: 'of the LDT is #GP(selector)', operands: [AX], pre: { RAX: 0x44n }, outcome: gp(0x44) },
  ]);

  it('LTR marks its TSS busy', () => {
    const { f } = execute('LTR', [AX], { pre: { RAX: u64(TR) }, arrange: writeTss() });
    expect(f.memory.readU8(u64(GDT + TR + 5))).toBe(0x8b);
  });

  it('SGDT and SIDT store ten bytes', () => {
    const { f } = execute('SIDT', [at(DATA)]);
    expect([f.memory.readU16(u64(DATA)), f.memory.readU64(u64(DATA + 2))]).toEqual([
      0xfff,
      0x2000n,
    ]);
  });
});
