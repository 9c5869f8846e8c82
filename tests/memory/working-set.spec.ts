/** The pages that may change: an image is exact whenever a page joins, and equal pages are one buffer. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PhysicalMemory } from '../../emulator/memory/physical-memory.js';
import { WorkingSet } from '../../emulator/memory/working-set.js';

const PAGES = 8;

function make(): { memory: PhysicalMemory; set: WorkingSet } {
  const memory = new PhysicalMemory(new ArrayBuffer(PAGES * 4096));
  const set = new WorkingSet(memory);
  memory.writeFollower = set;
  return { memory, set };
}

describe('working set', () => {
  it('gives back all of memory as it was at any image, whichever pages were written since and in whatever order', () => {
    const write = fc.record({
      at: fc.nat({ max: PAGES * 4096 - 9 }),
      value: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
    });
    const act = fc.oneof(write, fc.constant('take' as const), fc.nat({ max: 9 }));
    fc.assert(
      fc.property(fc.array(act, { maxLength: 40 }), (acts) => {
        const { memory, set } = make();
        const images = [{ taken: set.take(), bytes: memory.bytes.slice() }];
        for (const one of acts) {
          if (typeof one === 'object') memory.writeU64(BigInt(one.at), one.value);
          else if (one === 'take') images.push({ taken: set.take(), bytes: memory.bytes.slice() });
          else {
            const { taken, bytes } = images[one % images.length]!;
            set.restore(taken);
            expect(Buffer.compare(memory.bytes, bytes)).toBe(0);
          }
        }
      }),
    );
  });

  it('says which pages a restore changed', () => {
    const { memory, set } = make();
    memory.writeU8(0x1000n, 1);
    memory.writeU8(0x3000n, 1);
    const images = set.take();
    memory.writeU8(0x3001n, 2);
    memory.writeU8(0x5000n, 2);
    expect(set.restore(images)).toEqual([0x3000, 0x5000]);
    expect(set.restore(images)).toEqual([]);
  });

  it('takes in both pages of a write across their border', () => {
    const { memory, set } = make();
    memory.writeU32(0x1ffen, 0);
    expect(set.pageCount).toBe(2);
  });

  it('shares the buffer of a page that did not change', () => {
    const { memory, set } = make();
    memory.writeU8(0n, 1);
    memory.writeU8(0x1000n, 1);
    const before = set.take();
    memory.writeU8(0n, 2);
    const after = set.take();
    expect(after[1]).toBe(before[1]);
    expect(after[0]).not.toBe(before[0]);
  });
});
