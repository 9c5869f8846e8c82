/** A passed-through device's interrupts: who takes them, and whom they reach, attached and in the gap. */
import { describe, expect, it } from 'vitest';
import { Conductor } from '../../emulator/machine/conductor.js';
import { parseScenario } from '../../emulator/machine/scenario/load.js';
import { referencePayload } from '../support/reference-payload.js';

function run(steps: string, settings = ''): Conductor {
  const text = `
name: device
description: Interrupts of a device.
vcpus: 2
seed: 41
mix: idle
rate: 500
${settings}
steps:
${steps}`;
  const conductor = new Conductor(parseScenario(text, 'device.yaml'), referencePayload(), false);
  conductor.run();
  return conductor;
}

const findings = ({ machine }: Conductor): readonly string[] =>
  machine.ledger.findings.map(({ invariant, message }) => `${invariant}: ${message}`);

describe('while attached', () => {
  it("an interrupt at another vCPU's core goes to the vCPU that KVM's route names", () => {
    const event = '{ vcpu: 1, at: 0.01, event: { kind: interrupt, vector: 0x41 } }';
    const conductor = run(`  - run: { seconds: 0.05, script: [${event}] }`);
    expect(findings(conductor)).toEqual([]);
    const delivered = conductor.machine.lanes.map(
      ({ interrupts }) => interrupts.counts(0x51).delivered,
    );
    expect(delivered).toEqual([1, 0]);
  });
});
