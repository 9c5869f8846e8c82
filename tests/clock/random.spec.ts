import { describe, expect, it } from 'vitest';
import { Random } from '../../emulator/clock/random.js';

const draw = (random: Random, count: number) =>
  Array.from({ length: count }, () => random.nextU32());

describe('Random', () => {
  it('xoshiro128** continues a known state with the published first output', () => {
    // State 1, 2, 3, 4: rotl(2 * 5, 7) * 9 = 11520; the next state word makes the second output 0.
    expect(draw(Random.fromState([1, 2, 3, 4]), 2)).toEqual([11520, 0]);
  });

  it('the stream is a pure function of the seed', () => {
    expect(draw(new Random(42), 8)).toEqual(draw(new Random(42), 8));
    expect(draw(new Random(42), 8)).not.toEqual(draw(new Random(43), 8));
  });

  it('a restored stream goes on where its state was taken', () => {
    const random = new Random(1);
    draw(random, 5);
    const copy = Random.fromState(random.state());
    expect(draw(copy, 5)).toEqual(draw(random, 5));
  });

  it('64 bits are two draws, the high half first', () => {
    const [high, low] = draw(new Random(9), 2);
    expect(new Random(9).nextU64()).toBe((BigInt(high!) << 32n) | BigInt(low!));
  });

  it('a bounded draw stays below its bound and reaches every value', () => {
    const random = new Random(3);
    const seen = new Set(Array.from({ length: 500 }, () => random.below(6)));
    expect([...seen].sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5]);
  });
});
