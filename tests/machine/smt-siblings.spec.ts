/** Threads of one core leave a kernel together, or not at all, and come to the next together. */
import { describe, expect, it } from 'vitest';
import { Conductor } from '../../emulator/machine/conductor.js';
import { parseScenario } from '../../emulator/machine/scenario/load.js';
import { referencePayload } from '../support/reference-payload.js';

const PRESERVED = '{ pause-devices: true }, { preserve: { mix: busy-gap, rate: 1000 } }';

function run(vcpus: number, steps: string, before = '{ run: { exits: 60 } }'): Conductor {
  const conductor = new Conductor(
    parseScenario(
      `name: smt\ndescription: threads\nvcpus: ${vcpus}\nthreads-per-core: 2\nseed: 3\nsteps: [${before}, ${PRESERVED}, ${steps}]\n`,
      'smt.yaml',
    ),
    referencePayload(),
    false,
  );
  conductor.run();
  return conductor;
}

const statesOf = ({ kernels }: Conductor): readonly string[] =>
  kernels.kernel.hotplug.cpus().map(({ state }) => state);
const clean = ({ machine }: Conductor): void => {
  expect(machine.ledger.findings).toEqual([]);
};
const initsOf = (conductor: Conductor): readonly string[] =>
  conductor.machine.timeline
    .mostTelling(1e6)
    .flatMap(({ event }) => (event.startsWith('INIT sent') ? [event] : []));

describe('a core with two threads', () => {
  it('of which both run vCPUs alone changes kernels', () => {
    const conductor = run(2, '{ vmm-exit: true }, { kexec: { seconds: 0.05 } }');
    expect(statesOf(conductor)).toEqual([
      'online',
      'online',
      'workload',
      'workload',
      'online',
      'online',
    ]);
    clean(conductor);
  });

  it('of which one is online does not: EBUSY, and all is as it was', () => {
    const conductor = run(
      1,
      '{ kexec: { seconds: 0.05, expect: EBUSY } }, { gap: { seconds: 0.02 } }',
    );
    expect(statesOf(conductor)).toEqual([
      'online',
      'online',
      'workload',
      'online',
      'online',
      'online',
    ]);
    expect(conductor.kernels.kernel.config.generation).toBe('old');
    clean(conductor);
  });

  it('of which one is offline takes it along: the next kernel does not bring it up beside the guest', () => {
    const conductor = run(1, '{ offline: { pcpu: 3 } }, { kexec: { seconds: 0.05 } }');
    expect(statesOf(conductor)).toEqual([
      'online',
      'online',
      'workload',
      'workload',
      'online',
      'online',
    ]);
    expect(initsOf(conductor)).toEqual([]);
    clean(conductor);
  });

  it('has both threads online once the update is finished', () => {
    const conductor = run(
      1,
      '{ offline: { pcpu: 3 } }, { kexec: { seconds: 0.05 } }, { retrieve: true }, { finish: true }, { run: { exits: 60, mix: busy } }',
    );
    expect(statesOf(conductor)).toEqual(Array(6).fill('online'));
    clean(conductor);
  });

  it('has its idle thread offline again when another core makes kexec fail, and goes with both at the next', () => {
    const apart = '{ run: { exits: 60 } }, { migrate: { vcpu: 1, pcpu: 4 } }';
    const refused = '{ offline: { pcpu: 3 } }, { kexec: { seconds: 0.05, expect: EBUSY } }';
    const first = run(2, refused, apart);
    expect(statesOf(first)).toEqual(['online', 'online', 'workload', 'dead', 'workload', 'online']);
    const both = run(
      2,
      `${refused}, { offline: { pcpu: 5 } }, { kexec: { seconds: 0.05 } }`,
      apart,
    );
    expect(statesOf(both)).toEqual(['online', 'online', ...Array<string>(4).fill('workload')]);
    clean(both);
  });

  it('of the host stays: the boot CPU goes nowhere', () => {
    expect(() => run(1, '{ offline: { pcpu: 0 } }')).toThrow(/offline of CPU 0: -EBUSY/);
    expect(() => run(1, '{ offline: { pcpu: 9 } }')).toThrow(/cores 0 to 5/);
  });
});
