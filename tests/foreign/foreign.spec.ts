/** A payload that nobody wrote against this machine runs its scenarios with every invariant held. */
import { describe, expect, it } from 'vitest';
import { Conductor } from '../../emulator/machine/conductor.js';
import {
  builtinScenarioNames,
  loadScenario,
  parseScenario,
} from '../../emulator/machine/scenario/load.js';
import { unexpectedFindings } from '../../emulator/machine/scenario/expectations.js';
import { makeTrial } from '../mutants/scenarios.js';
import { CLANG, GCC, isInstalled } from '../payload/payload-tree.js';
import { buildForeign } from './build-foreign.js';

const findings = ({ machine, scenario }: Conductor): readonly string[] =>
  unexpectedFindings(scenario, machine.ledger.findings).map(
    ({ invariant, message }) => `${invariant}: ${message}`,
  );

const answered = ({ machine }: Conductor): readonly boolean[] =>
  machine.lanes.map(({ truth }) => truth.total('fastpath') > 0);

describe('the foreign payload, an ET_DYN by gcc', () => {
  const payload = buildForeign(GCC, 'ET_DYN');

  it.each(builtinScenarioNames())('holds every invariant in %s', (name) => {
    const conductor = new Conductor(loadScenario(name), payload, false);
    conductor.run();
    expect(findings(conductor)).toEqual([]);
  });

  it.each(['live-update', 'live-update-shared'] as const)('and with NMIs, in %s', (trial) => {
    const conductor = makeTrial(trial, payload);
    conductor.run();
    expect(findings(conductor)).toEqual([]);
    expect(answered(conductor)).toEqual([true, true]);
  });
});

describe('the foreign payload, by other means', () => {
  it.runIf(isInstalled(CLANG))('is an ET_DYN by clang and lld', () => {
    const conductor = makeTrial('live-update', buildForeign(CLANG, 'ET_DYN'));
    conductor.run();
    expect(findings(conductor)).toEqual([]);
    expect(answered(conductor)).toEqual([true, true]);
  });

  const alone = `
    name: alone
    description: One vCPU across a kexec.
    vcpus: 1
    steps:
      - run: { exits: 300 }
      - pause-devices: true
      - preserve: {}
      - vmm-exit: true
      - kexec: { seconds: 1, mix: busy-gap, rate: 100 }
      - retrieve: true
      - finish: true
      - run: { exits: 100, mix: busy, rate: 3600 }`;

  it('is an ET_EXEC at its link address', () => {
    const scenario = parseScenario(alone, 'alone.yaml');
    const conductor = new Conductor(scenario, buildForeign(GCC, 'ET_EXEC'), false);
    conductor.run();
    expect(findings(conductor)).toEqual([]);
    expect(answered(conductor)).toEqual([true]);
  });

  it('an ET_EXEC has room for one vCPU: the second is refused with ENOMEM', () => {
    const scenario = parseScenario(alone.replace('vcpus: 1', 'vcpus: 2'), 'alone.yaml');
    const conductor = new Conductor(scenario, buildForeign(GCC, 'ET_EXEC'), false);
    expect(() => {
      conductor.run();
    }).toThrow(/KVM_SET_CARETAKER: -ENOMEM/);
  });
});
