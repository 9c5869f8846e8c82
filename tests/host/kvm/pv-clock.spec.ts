/** kvmclock: the scale from TSC ticks to ns, what a guest reads, how KVM writes, and what another kernel may not do. */
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { StructView } from '../../../abi/layout.js';
import {
  KVM_STEAL_TIME,
  PVCLOCK_VCPU_TIME_INFO,
  PVCLOCK_WALL_CLOCK,
} from '../../../abi/pv-clock.js';
import {
  addSteal,
  clockAt,
  readTimeInfo,
  scaleOf,
  writeTimeInfo,
  writeWallClock,
} from '../../../emulator/host/kvm/pv-clock.js';
import { Conductor } from '../../../emulator/machine/conductor.js';
import { parseScenario } from '../../../emulator/machine/scenario/load.js';
import { PhysicalMemory } from '../../../emulator/memory/physical-memory.js';
import { referencePayload } from '../../support/reference-payload.js';

const GHZ = 1_000_000_000;

describe('scaleOf()', () => {
  it('keeps 31 bits at least, so that a second of ticks is a second to a few ns', () => {
    fc.assert(
      fc.property(fc.integer({ min: 100_000_000, max: 6 * GHZ }), (hz) => {
        const { mul, shift } = scaleOf(hz);
        expect(mul >= 1n << 31n && mul < 1n << 32n).toBe(true);
        const second = clockAt({ tsc: 0n, ns: 0n, mul, shift }, BigInt(hz));
        expect(Number(second)).toBeGreaterThan(GHZ - 20);
        expect(Number(second)).toBeLessThanOrEqual(GHZ);
      }),
    );
  });

  it.each([
    [GHZ, 0x8000_0000n, 1],
    [2 * GHZ, 0x8000_0000n, 0],
    [4 * GHZ, 0x8000_0000n, -1],
  ])('of %i Hz is what Linux computes', (hz, mul, shift) => {
    expect(scaleOf(hz)).toEqual({ mul, shift });
  });
});

describe('a structure in guest memory', () => {
  let memory: PhysicalMemory;
  beforeEach(() => {
    memory = new PhysicalMemory(new ArrayBuffer(8192));
  });
  const HPA = 0x1000n;

  it('is read as it was written, a negative shift too', () => {
    const base = { tsc: 5n, ns: 7n, ...scaleOf(3_700_000_000) };
    writeTimeInfo(memory, HPA, base);
    expect(base.shift).toBeLessThan(0);
    expect(readTimeInfo(new StructView(PVCLOCK_VCPU_TIME_INFO, memory, HPA))).toEqual(base);
  });

  it('has a new even version after each write', () => {
    const version = (): number =>
      new StructView(PVCLOCK_VCPU_TIME_INFO, memory, HPA).number('version');
    const base = { tsc: 0n, ns: 0n, ...scaleOf(GHZ) };
    writeTimeInfo(memory, HPA, base);
    const first = version();
    writeTimeInfo(memory, HPA, base);
    expect([first, version()]).toEqual([2, 4]);
  });

  it('adds steal time up', () => {
    addSteal(memory, HPA, 5n);
    addSteal(memory, HPA, 6n);
    const view = new StructView(KVM_STEAL_TIME, memory, HPA);
    expect([view.get('steal'), view.number('version')]).toEqual([11n, 4]);
  });

  it('splits the wall clock into seconds and ns', () => {
    writeWallClock(memory, HPA, 1_767_225_600_000_000_007n);
    const view = new StructView(PVCLOCK_WALL_CLOCK, memory, HPA);
    expect([view.number('sec'), view.number('nsec')]).toEqual([1_767_225_600, 7]);
  });
});

describe('across a kexec', () => {
  const run = (next: string): Conductor => {
    const text = `
name: clock
description: kvmclock across a kexec.
vcpus: 1
seed: 4
rate: 1000
next-kernel: { ${next} }
steps:
  - run:
      seconds: 0.05
      script:
        - { vcpu: 0, at: 0.01, exit: { kind: wrmsr, index: 0x4b564d01, value: 0x1001 } }
        - { vcpu: 0, at: 0.02, exit: { kind: wrmsr, index: 0x4b564d03, value: 0x2001 } }
  - pause-devices: true
  - preserve: {}
  - kexec: { seconds: 1, mix: busy-gap, rate: 100 }
  - retrieve: true
  - finish: true
  - run: { exits: 50, mix: busy, rate: 1000 }`;
    const conductor = new Conductor(parseScenario(text, 'clock.yaml'), referencePayload(), false);
    conductor.run();
    return conductor;
  };
  const findings = ({ machine }: Conductor): readonly string[] =>
    machine.ledger.findings.map(({ invariant, message }) => `${invariant}: ${message}`);

  it.each(['tsc-ppm: 200', 'tsc-ppm: -200', 'wall-step: -86400', 'wall-step: 86400'])(
    'the guest notices nothing of %s',
    (next) => {
      const conductor = run(next);
      expect(findings(conductor)).toEqual([]);
      expect(conductor.machine.lane(0).vcpu.pvTimeInfo).not.toBe(0n);
    },
  );

  it('a kernel that computes the clock anew is found', () => {
    expect(findings(run('clock: restarted'))[0]).toMatch(/^time: .* kvmclock is \d+ ns at TSC/);
  });
});
