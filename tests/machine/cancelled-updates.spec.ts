/** An update that is cancelled leaves nothing behind, however often; the one after it preserves what it needs and no more. */
import { beforeAll, describe, expect, it } from 'vitest';
import { Conductor } from '../../emulator/machine/conductor.js';
import { parseScenario } from '../../emulator/machine/scenario/load.js';
import type { PhaseName } from '../../emulator/machine/timeline.js';
import { toIndex } from '../../abi/uint.js';
import { referencePayload } from '../support/reference-payload.js';

const ROUNDS = 10;
/** What LUO, KHO and the file handlers preserve for themselves. */
const RECORDS = /^(LUO|KHO|record of|folios of) /;

const scenario = parseScenario(
  `
name: cancelled-often
description: One update after the other is cancelled, with an exit that waits, and then one goes through.
vcpus: 2
seed: 9
rate: 10000
steps:
  - run: { exits: 100 }
${Array.from(
  { length: ROUNDS },
  (_, round) => `
  - pause-devices: true
  - preserve: { mix: busy-gap }
  - gap: { seconds: 0.002, script: [{ vcpu: ${round % 2}, at: 0.001, exit: { kind: vmcall } }] }
  - close-session: true
  - run: { exits: 50, mix: busy }
`,
).join('')}
  - pause-devices: true
  - preserve: { mix: busy-gap }
  - vmm-exit: true
  - kexec: { seconds: 0.02 }
  - retrieve: true
  - finish: true
  - run: { exits: 100, mix: busy }`,
  'cancelled-often.yaml',
);

/** What the host holds at one moment. */
interface Holdings {
  readonly phase: PhaseName;
  readonly preserved: ReadonlySet<number>;
  readonly freePages: number;
  /** Labels of all that is allocated, without the numbers that count up. */
  readonly labels: readonly string[];
  /** Preserved pages whose region is neither a vCPU's, nor the guest's or its page tables', nor a record. */
  readonly strange: readonly string[];
  /** Pages of the vCPUs that are not preserved. */
  readonly missing: readonly string[];
}

function holdingsOf(conductor: Conductor, phase: PhaseName): Holdings {
  const { kernels, machine } = conductor;
  const preserved = new Set(
    kernels.kernel.khoOut
      .preservedFrames()
      .flatMap(({ start, count }) => Array.from({ length: count }, (_, n) => start + n)),
  );
  const own = machine.lanes.flatMap(({ vcpu }) =>
    vcpu.memory.all().map((run) => ({ ...run, first: toIndex(run.hpa >> 12n) })),
  );
  const ownFrames = new Set(
    own.flatMap(({ first, pages }) => Array.from({ length: pages }, (_, n) => first + n)),
  );
  const strange = [...preserved]
    .filter((frame) => !ownFrames.has(frame))
    .map((frame) => machine.memory.regionAt(frame * 4096))
    .filter((region) => region?.owner !== 'shared-metadata' && region?.owner !== 'guest')
    .filter((region) => region?.label.includes('EPT') !== true)
    .map((region) => region?.label ?? 'free memory')
    .filter((label) => !RECORDS.test(label));
  return {
    phase,
    preserved,
    freePages: kernels.kernel.allocator.freePages(),
    labels: machine.memory
      .regions()
      .map(({ label }) => label)
      .sort((a, b) => (a < b ? -1 : 1)),
    strange,
    missing: own
      .filter(
        ({ first, pages }) =>
          !Array.from({ length: pages }, (_, n) => first + n).every((f) => preserved.has(f)),
      )
      .map(({ what }) => what),
  };
}

describe(`${ROUNDS} updates that are cancelled, and one that goes through`, () => {
  const conductor = new Conductor(scenario, referencePayload(), false);
  const seen: Holdings[] = [];

  beforeAll(() => {
    const { timeline } = conductor.machine;
    const enter = timeline.enter.bind(timeline);
    timeline.enter = (tsc, phase) => {
      seen.push(holdingsOf(conductor, phase));
      enter(tsc, phase);
    };
    conductor.run();
  }, 120_000);

  const phase = (name: PhaseName): readonly Holdings[] =>
    seen.filter((one) => one.phase === name).slice(0, ROUNDS + 1);

  it('break no invariant', () => {
    expect(conductor.machine.ledger.findings).toEqual([]);
    expect(phase('detached')).toHaveLength(ROUNDS + 1);
  });

  it('preserve every page of the vCPUs each time, and else only records and guest memory', () => {
    for (const { missing, strange } of phase('detached'))
      expect({ missing, strange }).toEqual({ missing: [], strange: [] });
  });

  it('preserve as many pages the last time as the first', () => {
    const sizes = phase('detached').map(({ preserved }) => preserved.size);
    expect(sizes).toEqual(sizes.map(() => sizes[0]));
  });

  it('leave nothing preserved and nothing allocated that was not before', () => {
    const [first, ...later] = phase('attached').slice(0, ROUNDS + 1);
    for (const { preserved, freePages, labels } of later) {
      expect(preserved.size).toBe(first!.preserved.size);
      expect(labels).toEqual(first!.labels);
      expect(freePages).toBe(first!.freePages);
    }
  });
});

it('a scenario that ends in the gap says that its vCPUs run alone', () => {
  const text =
    'name: a\ndescription: b\nvcpus: 2\nsteps: [{ run: { exits: 5 } }, { pause-devices: true }, { preserve: {} }]';
  const conductor = new Conductor(parseScenario(text, 'a.yaml'), referencePayload(), false);
  conductor.run();
  const told = conductor.machine.timeline.mostTelling(Infinity).map(({ event }) => event);
  expect(told.filter((event) => /ends in the gap: 2 vCPUs run alone/.test(event))).toHaveLength(1);
});
