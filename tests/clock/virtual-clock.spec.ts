import { describe, expect, it } from 'vitest';
import { HarnessBug } from '../../abi/errors.js';
import { VirtualClock } from '../../emulator/clock/virtual-clock.js';

function clockOf(instructions: number, tscBase = 0) {
  const source = { tscBase, counters: { instructions } };
  return { source, clock: new VirtualClock(source) };
}

describe('VirtualClock', () => {
  it('the TSC counts executed instructions on top of its base', () => {
    const { source, clock } = clockOf(7, 1000);
    expect(clock.now()).toBe(1007);
    source.counters.instructions = 9;
    expect(clock.now()).toBe(1009);
  });

  it('a jump moves the base that the in-line RDTSC uses', () => {
    const { source, clock } = clockOf(7, 1000);
    clock.advanceTo(5000);
    expect([clock.now(), source.tscBase]).toEqual([5000, 4993]);
  });

  it('a jump into the past changes nothing', () => {
    const { clock } = clockOf(0, 1000);
    clock.advanceTo(10);
    expect(clock.now()).toBe(1000);
  });

  it('time never advances by a negative number of ticks', () => {
    expect(() => clockOf(0).clock.advance(-1)).toThrow(HarnessBug);
  });

  it('a restored clock shows its old time whatever the engine has counted since', () => {
    const { source, clock } = clockOf(7, 1000);
    const state = clock.state();
    source.counters.instructions = 123;
    clock.restore(state);
    expect(clock.now()).toBe(1007);
  });
});
