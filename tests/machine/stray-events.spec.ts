/** NMIs, machine checks, INIT and stray interrupts, at any point of a vCPU's life: survived, or parked as documented. */
import { describe, expect, it } from 'vitest';
import { Conductor } from '../../emulator/machine/conductor.js';
import { parseScenario } from '../../emulator/machine/scenario/load.js';
import { referencePayload } from '../support/reference-payload.js';

const scenario = (steps: string): string => `
name: stray
description: Events from outside at a vCPU.
vcpus: 1
seed: 21
mix: idle
rate: 2000
steps:${steps}`;

const made = (steps: string): Conductor =>
  new Conductor(parseScenario(scenario(steps), 'stray.yaml'), referencePayload(), false);

function run(steps: string): Conductor {
  const conductor = made(steps);
  conductor.run();
  return conductor;
}

const findings = ({ machine }: Conductor): readonly string[] =>
  machine.ledger.findings.map(({ invariant, message }) => `${invariant}: ${message}`);

const checked = ({ machine }: Conductor): number =>
  machine.ledger.results().find(({ id }) => id === 'nmi')!.checked;

const truth = ({ machine }: Conductor) => {
  const { truth: counted, vcpu } = machine.lane(0);
  const telemetry = {
    nmis: vcpu.telemetry.number('nmis'),
    checks: vcpu.telemetry.number('machine_checks'),
  };
  return { telemetry, truth: { nmis: counted.nmis, checks: counted.machineChecks } };
};

/** An event at each instruction of the first ones of a handler, an exit each. */
const sweep = (event: string, count: number): string =>
  Array.from({ length: count }, (_, n) => {
    const at = (0.01 + n / 1000).toFixed(4);
    const later = (0.0101 + n / 1000).toFixed(4);
    const exit = n % 3 === 0 ? 'kind: rdtsc' : 'kind: cpuid, leaf: 7, subleaf: 1';
    return `{ vcpu: 0, at: ${at}, event: { ${event} }, instruction: ${n} },
            { vcpu: 0, at: ${later}, exit: { ${exit} } }`;
  }).join(',\n            ');

const HANDLER = 500;
const attached = (script: string): string => `
      - run: { seconds: 1, script: [${script}] }`;
const detached = (script: string, seconds = 1): string => `
      - pause-devices: true
      - preserve: {}
      - gap: { seconds: ${seconds}, script: [${script}] }
      - close-session: true
      - run: { exits: 10 }`;

describe('an event at any instruction of a handler is survived', () => {
  it.each([
    ['an NMI while KVM is attached', attached, 'kind: nmi', 'nmisDelivered'],
    ['an NMI in the gap', detached, 'kind: nmi', 'nmisDelivered'],
    [
      'a machine check while KVM is attached',
      attached,
      'kind: machine-check',
      'machineChecksDelivered',
    ],
    ['a machine check in the gap', detached, 'kind: machine-check', 'machineChecksDelivered'],
  ] as const)('%s', (_title, phase, event, evidence) => {
    const conductor = run(`
      - run: { exits: 10 }${phase(sweep(event, HANDLER))}`);
    expect(findings(conductor)).toEqual([]);
    expect(conductor.machine.evidence[evidence]).toBe(HANDLER);
    expect(checked(conductor)).toBeGreaterThan(HANDLER / 2);
    expect(truth(conductor).telemetry).toEqual(truth(conductor).truth);
  });

  it.each(['init', 'interrupt, vector: 0xd0', 'spurious-interrupt'])(
    'and %s is not taken before VM entry',
    (kind) => {
      const conductor = run(`
      - run: { exits: 10 }${attached(sweep(`kind: ${kind}`, 40))}`);
      expect(findings(conductor)).toEqual([]);
    },
  );
});

describe('the nmi invariant', () => {
  it('counts no exit in which neither an NMI nor a machine check came', () => {
    const conductor = run(attached(''));
    expect(conductor.machine.lane(0).truth.exits).toBeGreaterThan(100);
    expect(checked(conductor)).toBe(0);
  });

  it('counts the exit that an NMI causes, and the wait that it interrupts', () => {
    const conductor = run(`
      - run: { exits: 10, script: [{ vcpu: 0, at: 0, event: { kind: nmi } }] }${detached(
        '{ vcpu: 0, at: 0, exit: { kind: vmcall } }, { vcpu: 0, at: 0.5, event: { kind: nmi } }',
      )}`);
    expect(findings(conductor)).toEqual([]);
    expect([checked(conductor), conductor.machine.evidence['nmisDelivered']]).toEqual([2, 2]);
  });
});

describe('a machine check that loses its context', () => {
  const LOST = 'event: { kind: machine-check, restartable: false }';

  it.each([
    ['while the guest runs', `{ vcpu: 0, at: 0.1, ${LOST} }`],
    ['in a handler', `{ vcpu: 0, at: 0.1, ${LOST}, instruction: 33 }`],
  ])('in the gap, %s, parks the core with vector 18 in its record', (_title, entry) => {
    const conductor = run(`
      - run: { exits: 10 }
      - pause-devices: true
      - preserve: {}
      - gap: { seconds: 1, script: [${entry}] }`);
    expect(findings(conductor)).toEqual([]);
    const { telemetry, payloadState } = conductor.machine.lane(0).vcpu;
    expect(payloadState).toBe('PARKED');
    expect([telemetry.number('park_valid'), telemetry.number('park_vector')]).toEqual([1, 18]);
    expect(telemetry.number('machine_checks')).toBe(0);
    expect(checked(conductor)).toBe(1);
  });

  it('while KVM is attached costs the VMM its life, and is no fault of the payload', () => {
    const conductor = run(`
      - run: { seconds: 1, script: [{ vcpu: 0, at: 0.1, ${LOST} }] }`);
    expect(findings(conductor)).toEqual([]);
    expect(conductor.machine.evidence['killed']).toBe(1);
  });
});

describe('an event that the guest cannot take yet does not hold time up', () => {
  const steps = `
      - run: { exits: 10 }
      - run: { seconds: 0.1 }`;

  it('an NMI under the shadow of MOV SS comes one instruction after VM entry', () => {
    const conductor = made(steps);
    const { machine } = conductor;
    let enteredAt = 0;
    machine.events.schedule(20_000_000, () => {
      const lane = machine.lane(0);
      lane.vmcs.write('GUEST_INTERRUPTIBILITY_INFO', 2n);
      lane.vmcs.entryTsc = lane.pcpu.now();
      enteredAt = lane.pcpu.now();
      lane.pcpu.pendingNmi = true;
    });
    conductor.run();
    expect(enteredAt).toBeGreaterThan(0);
    expect(machine.evidence['nmisDelivered']).toBe(1);
    expect(findings(conductor)).toEqual([]);
  });

  it('a machine check that the exception bitmap gives to the guest is taken by the guest', () => {
    const conductor = made(steps);
    const { machine } = conductor;
    machine.events.schedule(20_000_000, () => {
      const lane = machine.lane(0);
      lane.vmcs.write('EXCEPTION_BITMAP', 0n);
      lane.pcpu.pendingMachineCheck = true;
    });
    conductor.run();
    expect(machine.lane(0).pcpu.pendingMachineCheck).toBe(false);
    expect(machine.evidence['machineChecksDelivered']).toBe(1);
  });

  it('an NMI that the guest blocks by itself waits, and the guest goes on', () => {
    const conductor = made(steps);
    const { machine } = conductor;
    machine.events.schedule(20_000_000, () => {
      const lane = machine.lane(0);
      const pin = lane.vmcs.read('PIN_BASED_VM_EXEC_CONTROL');
      lane.vmcs.write('PIN_BASED_VM_EXEC_CONTROL', pin & ~0x20n);
      lane.vmcs.write('GUEST_INTERRUPTIBILITY_INFO', 8n);
      lane.pcpu.pendingNmi = true;
    });
    conductor.run();
    expect(machine.lane(0).truth.exits).toBeGreaterThan(100);
    expect(machine.now()).toBeGreaterThan(200_000_000);
  });
});
