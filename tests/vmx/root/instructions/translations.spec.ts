import { describe, expect, it } from 'vitest';
import { u64 } from '../../../../abi/uint.js';
import type { Operand } from '../../../../emulator/cpu/decode.js';
import { DATA, at, type Fixture } from '../fixture.js';
import { NON_CANONICAL, RAX, GP0, execute, rows } from './execute.js';

describe('translations', () => {
  const descriptor =
    (pcid: bigint, linear: bigint) =>
    ({ memory }: Fixture): void => {
      memory.writeU64(u64(DATA), pcid);
      memory.writeU64(u64(DATA + 8), linear);
    };
  const INVPCID = [RAX, at(DATA)];
  // prettier-ignore
  rows([
    { name: 'INVPCID', rule: 'type 4 is #GP(0)', operands: INVPCID, pre: { RAX: 4n }, outcome: GP0 },
    { name: 'INVPCID', rule: 'a PCID has 12 bits', operands: INVPCID, pre: { RAX: 2n }, arrange: descriptor(0x1000n, 0n), outcome: GP0 },
    { name: 'INVPCID', rule: 'a PCID needs CR4.PCIDE', operands: INVPCID, pre: { RAX: 1n, CR4: 0x2020n }, arrange: descriptor(1n, 0n), outcome: GP0 },
    { name: 'INVPCID', rule: 'type 0 needs a canonical address', operands: INVPCID, pre: { RAX: 0n }, arrange: descriptor(0n, NON_CANONICAL), outcome: GP0 },
  ]);

  it.each([
    {
      rule: 'INVLPG forgets one address',
      run: () => execute('INVLPG', [at(0x1234)]),
      forgotten: [0x1234n],
    },
    {
      rule: 'INVLPG of a non-canonical address does nothing',
      run: () => execute('INVLPG', [{ ...at(0), displacement: NON_CANONICAL } as Operand]),
      forgotten: [],
    },
    {
      rule: 'INVPCID type 0 forgets one address',
      run: () =>
        execute('INVPCID', INVPCID, { pre: { RAX: 0n }, arrange: descriptor(0n, 0x1234n) }),
      forgotten: [0x1234n],
    },
    {
      rule: 'INVPCID type 2 forgets all',
      run: () => execute('INVPCID', INVPCID, { pre: { RAX: 2n } }),
      forgotten: [null],
    },
  ])('$rule', ({ run, forgotten }) => expect(run().f.space.invalidated).toEqual(forgotten));
});
