import { describe, expect, it } from 'vitest';
import type { Operand } from '../../../../emulator/cpu/decode.js';
import { REG } from '../../../../emulator/cpu/registers.js';
import { DATA, at } from '../fixture.js';
import { NON_CANONICAL, GP0, execute, type Registers } from './execute.js';

describe('memory operands', () => {
  const operand = (parts: Partial<Extract<Operand, { kind: 'memory' }>>): Operand => ({
    ...(at(0) as Extract<Operand, { kind: 'memory' }>),
    ...parts,
  });
  const address = (parts: Parameters<typeof operand>[0], pre: Registers) =>
    execute('INVLPG', [operand(parts)], { pre }).f.space.invalidated[0];

  it.each([
    {
      rule: 'base, scaled index and displacement add up',
      parts: { base: REG.RBX, index: REG.RCX, scale: 8, displacement: -8n },
      pre: { RBX: 0x1000n, RCX: 2n },
      is: 0x1008n,
    },
    {
      rule: 'RIP is that of the next instruction',
      parts: { base: 'rip', displacement: 0x10n },
      pre: { RIP: 0x5000n },
      is: 0x5013n,
    },
    {
      rule: 'GS adds its base',
      parts: { segment: 'gs', displacement: 8n },
      pre: { GS_BASE: 0x3000n },
      is: 0x3008n,
    },
    {
      rule: 'FS adds its base',
      parts: { segment: 'fs', displacement: 8n },
      pre: { FS_BASE: 0x3000n },
      is: 0x3008n,
    },
    {
      rule: 'the sum wraps at 64 bits',
      parts: { base: REG.RBX, displacement: 0x10n },
      pre: { RBX: 0xffff_ffff_ffff_fff8n },
      is: 8n,
    },
  ] as const)('$rule', ({ parts, pre, is }) => expect(address(parts, pre)).toBe(is));

  it.each([
    { rule: 'a non-canonical address is #GP(0)', base: REG.RBX, vector: 13 },
    { rule: 'a non-canonical address on RSP is #SS(0)', base: REG.RSP, vector: 12 },
    { rule: 'a non-canonical address on RBP is #SS(0)', base: REG.RBP, vector: 12 },
  ])('$rule', ({ base, vector }) => {
    const pre = { RBX: NON_CANONICAL, RSP: NON_CANONICAL, RBP: NON_CANONICAL };
    expect(execute('SIDT', [operand({ base })], { pre }).outcome).toMatchObject({
      kind: 'fault',
      vector,
      errorCode: 0,
    });
  });

  it('an operand that ends beyond the canonical range is #GP(0)', () => {
    const edge = operand({ displacement: 0x7fff_ffff_fffan });
    expect(execute('LGDT', [edge]).outcome).toEqual(GP0);
  });

  it('what a model reads and writes is reported', () => {
    const seen: string[] = [];
    execute('SGDT', [at(DATA)], {
      options: {
        events: { onAccess: (access, where, size) => seen.push(`${access} ${where}+${size}`) },
      },
    });
    expect(seen).toEqual([`write ${DATA}+10`]);
  });
});
