/** Spin fast-forward: skipping the polls of a waiting payload changes nothing that anybody can see. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Conductor } from '../../emulator/machine/conductor.js';
import { parseScenario } from '../../emulator/machine/scenario/load.js';
import { referencePayload } from '../support/reference-payload.js';

const scenario = (seed: number, at: number, nmiAt: number, gap: number): string => `
name: short-wait
description: one vCPU blocks for some ten thousand polls
vcpus: 1
seed: ${seed}
mix: idle
rate: 1000
steps:
  - run: { exits: 20 }
  - pause-devices: true
  - preserve: {}
  - gap:
      seconds: ${gap}
      script:
        - { vcpu: 0, at: ${at}, exit: { kind: access, gpa: 0x1000 } }
        - { vcpu: 0, at: ${nmiAt}, event: { kind: nmi } }
  - close-session: true
  - run: { exits: 20 }
`;

const outcome = (text: string, pollsEveryTime: boolean) => {
  const conductor = new Conductor(parseScenario(text, 'short-wait'), referencePayload(), true, {
    pollsEveryTime,
  });
  conductor.run();
  const { machine } = conductor;
  return {
    timeline: machine.timeline.mostTelling(1000),
    slices: machine.timeline.slices,
    stalls: machine.lanes.map((lane) => lane.truth.stalls),
    invariants: machine.ledger.results().map(({ id, held }) => ({ id, held })),
    end: machine.now(),
  };
};

describe('spin fast-forward', () => {
  const micros = (max: number) => fc.integer({ min: 1, max }).map((n) => n / 1e6);

  it('a wait that is jumped over ends at the same tick, with the same trace, as one that is polled through', () => {
    fc.assert(
      fc.property(fc.nat(1e6), micros(40), micros(180), (seed, at, nmiAt) => {
        const text = scenario(seed, at, nmiAt, 2e-4);
        const jumped = outcome(text, false);
        expect(jumped.stalls[0]!.length).toBeGreaterThan(0);
        expect(jumped).toEqual(outcome(text, true));
      }),
      { numRuns: 8, seed: Number.parseInt(process.env['FC_SEED'] ?? '1', 10) },
    );
  });
});
