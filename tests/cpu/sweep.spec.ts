/** The sweep on instructions in a row, the same ones again and again among them. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BYTE_FLAG, sweep } from '../../emulator/cpu/sweep.js';

/** Each is one instruction: padding, branches, stores, sites. */
const INSTRUCTIONS: readonly (readonly number[])[] = [
  [0x90],
  [0xcc],
  [0x00, 0x00],
  [0x0f, 0x0b],
  [0xf4],
  [0x0f, 0x01, 0xc3],
  [0x0f, 0x78, 0xc8],
  [0x48, 0x89, 0x03],
  [0xe8, 0x00, 0x00, 0x00, 0x00],
  [0xc3],
  [0xf3, 0x48, 0xab],
  [0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
];

describe('a sweep', () => {
  it('says of each instruction what it says of it alone, however often it is repeated', () => {
    const runs = fc.array(
      fc.record({
        bytes: fc.constantFrom(...INSTRUCTIONS),
        times: fc.integer({ min: 1, max: 5 }),
      }),
      { minLength: 1, maxLength: 12 },
    );
    fc.assert(
      fc.property(runs, (drawn) => {
        const row = drawn.flatMap(({ bytes, times }) =>
          Array<readonly number[]>(times).fill(bytes),
        );
        const whole = sweep(Uint8Array.from(row.flat()));
        let at = 0;
        for (const bytes of row) {
          const alone = sweep(Uint8Array.from(bytes));
          expect(whole.flags[at]! & ~BYTE_FLAG.AFTER_BRANCH).toBe(alone.flags[0]);
          expect(whole.sites.find(({ offset }) => offset === at)?.instruction).toEqual(
            alone.sites[0]?.instruction,
          );
          for (let byte = 1; byte < bytes.length; byte++) expect(whole.flags[at + byte]).toBe(0);
          at += bytes.length;
        }
      }),
    );
  });

  it('does not take the head of a repeated instruction for a whole one at the end', () => {
    const { sites, flags } = sweep(Uint8Array.of(0x0f, 0x0b, 0x0f, 0x0b, 0x0f));
    expect(flags[4]! & BYTE_FLAG.BOUNDARY).toBe(BYTE_FLAG.BOUNDARY);
    expect(sites.map(({ offset, instruction }) => [offset, instruction.name])).toEqual([
      [4, 'UNDEFINED'],
    ]);
  });
});
