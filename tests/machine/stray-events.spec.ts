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

  it('is not passed over when the scenario goes on to count on that vCPU', () => {
    const conductor = run(`
      - run: { seconds: 1, script: [{ vcpu: 0, at: 0.1, ${LOST} }] }
      - run: { exits: 5 }`);
    expect(findings(conductor)).toEqual([
      expect.stringMatching(/5 exits are wanted and 0 came; every vCPU has ended or waits/),
    ]);
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

describe("a fault of the payload's own", () => {
  /** With so many instructions of the exit executed, each on a vCPU of its own. */
  const SWEPT = [0, 1, 5, 17, 40, 63, 88, 100_000];
  const sweptFaults = (event: string): Conductor => {
    const script = SWEPT.map(
      (instruction, vcpu) =>
        `{ vcpu: ${vcpu}, at: 0.01, event: { ${event} }, instruction: ${instruction} }`,
    );
    const text = scenario(`
      - run: { exits: 100 }
      - pause-devices: true
      - preserve: { mix: busy-gap }
      - gap: { seconds: 0.2, script: [${script.join(', ')}] }`);
    const conductor = new Conductor(
      parseScenario(text.replace('vcpus: 1', `vcpus: ${SWEPT.length + 1}`), 'faults.yaml'),
      referencePayload(),
      false,
    );
    conductor.run();
    return conductor;
  };

  it.each([
    ['kind: exception, vector: UD', [6n, 0n, 0n]],
    ['kind: exception, vector: GP, error-code: 0x28', [13n, 0x28n, 0n]],
    [
      'kind: exception, vector: PF, error-code: 2, address: 0xdeadbeef000',
      [14n, 2n, 0xdead_beef_000n],
    ],
  ] as const)('%s parks the core at any instruction, and the record says so', (event, record) => {
    const conductor = sweptFaults(event);
    expect(findings(conductor)).toEqual([]);
    expect(conductor.machine.evidence['parked']).toBe(SWEPT.length);
    for (const { vcpu, id } of conductor.machine.lanes.slice(0, SWEPT.length)) {
      const { telemetry, payloadState } = vcpu;
      const said = ['park_vector', 'park_error_code', 'park_cr2'].map((name) =>
        telemetry.get(name),
      );
      expect([id, payloadState, ...said]).toEqual([id, 'PARKED', ...record]);
      expect(vcpu.ccbView.get('rip')).toBe(telemetry.get('park_rip'));
    }
    const other = conductor.machine.lane(SWEPT.length);
    expect([other.vcpu.payloadState, other.phase]).toEqual(['RUNNING', 'guest']);
  });

  it('inside the handler of one before it does not overwrite the first record', () => {
    const conductor = run(`
      - run: { exits: 10 }
      - pause-devices: true
      - preserve: {}
      - gap:
          seconds: 1
          script:
            - { vcpu: 0, at: 0.1, event: { kind: exception, vector: GP }, instruction: 30 }
            - { vcpu: 0, at: 0.1, event: { kind: exception, vector: UD }, instruction: 90 }`);
    expect(findings(conductor)).toEqual([]);
    expect(conductor.machine.evidence['faultsOfPayloads']).toBe(2);
    expect(conductor.machine.lane(0).vcpu.telemetry.number('park_vector')).toBe(13);
  });

  const AFTER = `
      - retrieve: true
      - finish: true
      - run: { exits: 50 }`;
  const acrossKexec = (parked: string, script: string): Conductor => {
    const text = scenario(`
      - run: { exits: 10 }
      - pause-devices: true
      - preserve: {}
      - kexec: { seconds: 1, script: [${script}] }${AFTER}`);
    const conductor = new Conductor(
      parseScenario(text.replace('mix: idle', `mix: idle\nparked: ${parked}`), 'parked.yaml'),
      referencePayload(),
      false,
    );
    conductor.run();
    return conductor;
  };
  const WAITING = '{ vcpu: 0, at: 0.1, exit: { kind: vmcall } }';
  const FAULT = '{ vcpu: 0, at: 0.2, event: { kind: exception, vector: GP } }';

  it('while the vCPU waits leaves its guest whole: the next kernel answers the exit with another instance', () => {
    const conductor = acrossKexec('restart', `${WAITING}, ${FAULT}`);
    expect(findings(conductor)).toEqual([]);
    const lane = conductor.machine.lane(0);
    expect([lane.vcpu.state, lane.vcpu.payloadState]).toEqual(['running', 'RUNNING']);
    expect(lane.truth.exits).toBeGreaterThan(50);
  });

  // prettier-ignore
  it.each([
    ['the policy is to kill it',                'kill',    `${WAITING}, ${FAULT}`],
    ['its exit was half answered',              'restart', '{ vcpu: 0, at: 0.1, event: { kind: exception, vector: GP }, instruction: 30 }'],
    ["the fault overwrote the guest's CR2",     'restart', `${WAITING}, { vcpu: 0, at: 0.2, event: { kind: exception, vector: PF } }`],
    ['a machine check may have destroyed it',   'restart', `${WAITING}, { vcpu: 0, at: 0.2, event: { kind: machine-check, restartable: false } }`],
  ])('ends the vCPU when %s', (_title, policy, script) => {
    const text = scenario(`
      - run: { exits: 10 }
      - pause-devices: true
      - preserve: {}
      - kexec: { seconds: 1, script: [${script}] }
      - retrieve: true
      - finish: true`);
    const conductor = new Conductor(
      parseScenario(text.replace('mix: idle', `mix: idle\nparked: ${policy}`), 'parked.yaml'),
      referencePayload(),
      false,
    );
    conductor.run();
    expect(findings(conductor)).toEqual([]);
    expect(conductor.machine.lane(0).vcpu.state).toBe('dead');
    expect(conductor.machine.evidence['parkedRestarted']).toBeUndefined();
  });
});

describe('a machine check on top of another', () => {
  it("shuts the core down, which is nobody's fault while the first is being serviced", () => {
    const conductor = run(`
      - run: { exits: 10 }
      - pause-devices: true
      - preserve: {}
      - gap:
          seconds: 1
          script:
            - { vcpu: 0, at: 0.1, event: { kind: machine-check }, instruction: 20 }
            - { vcpu: 0, at: 0.1, event: { kind: machine-check }, instruction: 26 }`);
    expect(findings(conductor)).toEqual([]);
    expect(conductor.machine.evidence['coresShutDown']).toBe(1);
  });
});
