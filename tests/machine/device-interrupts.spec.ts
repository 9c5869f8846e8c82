/** A passed-through device's interrupts: who takes them, and whom they reach, attached and in the gap. */
import { describe, expect, it } from 'vitest';
import { EXIT_REASON } from '../../abi/exit-reasons.js';
import { PostedDescriptor } from '../../emulator/vmx/posted-descriptor.js';
import { Conductor } from '../../emulator/machine/conductor.js';
import { parseScenario } from '../../emulator/machine/scenario/load.js';
import { referencePayload } from '../support/reference-payload.js';

/** What is done to the VM once the gap has begun. */
type Prepare = (conductor: Conductor) => void;

function run(steps: string, settings = '', prepare?: Prepare): Conductor {
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
  if (prepare !== undefined) {
    const { machine } = conductor;
    const begins = machine.gapBegins.bind(machine);
    machine.gapBegins = () => {
      prepare(conductor);
      begins();
    };
  }
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

/** A device with the queues, and a gap in which it works on; what `script` says happens in it. */
function inTheGap(
  queues: string,
  script = '',
  more: { seconds?: number; settings?: string; delivery?: string; prepare?: Prepare } = {},
) {
  return run(
    `
  - run: { seconds: 0.01 }
  - pause-devices: true
  - preserve: {}
  - vmm-exit: true
  - kexec: { seconds: ${more.seconds ?? 0.05}, script: [${script}] }
  - retrieve: true
  - finish: true
  - run: { seconds: 0.01 }`,
    `device: { delivery: ${more.delivery ?? 'remapped'}, queues: [${queues}] }\n${more.settings ?? ''}`,
    more.prepare,
  );
}

/** Whether the guest has seen what the device has completed, the last of it apart: that may be on its way. */
const areSeen = ({ machine }: Conductor): readonly boolean[] =>
  machine.completions!.queues.map(
    ({ completed, seen, everyTicks }) =>
      completed > 0 && completed - seen <= Math.ceil(20_000 / everyTicks),
  );

describe('in the gap every completion is seen, its interrupt taken', () => {
  const WAITS = '{ vcpu: 1, at: 0.005, exit: { kind: vmcall } }';
  const HALTS = '{ vcpu: 1, at: 0.005, exit: { kind: hlt }, repeat: { times: 20, every: 0.002 } }';

  it.each([
    ['at the core of the vCPU that it is for', '{ vcpu: 0, every: 0.0007 }', ''],
    ["at a sibling's core", '{ vcpu: 0, every: 0.0007, core-of: 1 }', ''],
    [
      "at a sibling's core, for one that is halted",
      '{ vcpu: 1, every: 0.0007, core-of: 0 }',
      HALTS,
    ],
    ['at the core of one that is halted', '{ vcpu: 1, every: 0.0007 }', HALTS],
    ['at the core of a sibling that is halted', '{ vcpu: 0, every: 0.0007, core-of: 1 }', HALTS],
    ['for one that waits for KVM, at its core', '{ vcpu: 1, every: 0.0007 }', WAITS],
    ['for one that waits for KVM, at another', '{ vcpu: 1, every: 0.0007, core-of: 0 }', WAITS],
    ['at the core of a sibling that waits', '{ vcpu: 0, every: 0.0007, core-of: 1 }', WAITS],
  ])('%s', (_where, queue, script) => {
    for (const hlt of ['ACTIVITY', 'ROOT']) {
      const conductor = inTheGap(queue, script, { settings: `hlt: ${hlt}` });
      expect([hlt, findings(conductor), areSeen(conductor)]).toEqual([hlt, [], [true]]);
    }
  });

  it('in a storm, where they coalesce', () => {
    const conductor = inTheGap('{ vcpu: 0, every: 0.000001 }', '', { seconds: 0.004 });
    expect([findings(conductor), areSeen(conductor)]).toEqual([[], [true]]);
    const { completions, interruptsDelivered } = conductor.machine.evidence;
    expect(interruptsDelivered).toBeLessThan(completions!);
  });

  it('and cancelling the update changes nothing', () => {
    const conductor = run(
      `
  - run: { seconds: 0.01 }
  - pause-devices: true
  - preserve: {}
  - gap: { seconds: 0.02 }
  - close-session: true
  - run: { seconds: 0.01 }`,
      'device: { queues: [{ vcpu: 0, every: 0.0007 }, { vcpu: 1, every: 0.0008, core-of: 0 }] }',
    );
    expect([findings(conductor), areSeen(conductor)]).toEqual([[], [true, true]]);
  });
});

describe('a host that has not prepared for it is told', () => {
  it('no route: the payload counts a stray, and the completion is lost', () => {
    const conductor = inTheGap('{ vcpu: 0, every: 0.004, routed: false }');
    const [first] = findings(conductor);
    expect(first).toMatch(
      /^completions: vCPU 0 .*completion 1 of queue 0 .*vector 0x52 has not come/,
    );
    expect(conductor.machine.lane(0).vcpu.telemetry.number('stray_interrupts')).toBeGreaterThan(5);
  });

  it('a core whose payload has parked takes no interrupt, for a sibling neither', () => {
    const parked = '{ vcpu: 1, at: 0.001, event: { kind: exception, vector: GP }, instruction: 0 }';
    const conductor = inTheGap('{ vcpu: 0, every: 0.004, core-of: 1 }', parked);
    expect(findings(conductor)[0]).toMatch(/^completions: vCPU 0 .* vector 0x52 has not come/);
  });

  it('guest memory that changes under the device is seen by its driver', () => {
    const text = 'device: { queues: [{ vcpu: 0, every: 0.004 }] }';
    const conductor = run('  - run: { seconds: 0.01 }', text);
    const { machine } = conductor;
    const [queue] = machine.completions!.queues;
    machine.events.schedule(machine.now(), () => {
      machine.memory.writeU64(queue!.hpa, 0xa5a5n);
      machine.completions!.taken(machine.lane(0), queue!.guestVector);
    });
    machine.runFor(1000);
    expect(findings(conductor)[0]).toMatch(/^completions: .* and guest memory says 42405/);
  });

  it('a device that is busy and does not keep running cannot be preserved', () => {
    const conductor = run(
      '  - run: { seconds: 0.01 }\n  - preserve: { expect: EBUSY }\n  - run: { seconds: 0.01 }',
      'device: { queues: [{ vcpu: 0, every: 0.0007 }] }',
    );
    expect([findings(conductor), areSeen(conductor)]).toEqual([[], [true]]);
  });
});

describe('where no vCPU has the core', () => {
  it("the kernel takes the interrupt with its own handler, and KVM's irqfd posts it", () => {
    const conductor = run(
      `
  - run: { seconds: 0.01 }
  - migrate: { vcpu: 1, pcpu: 3 }
  - run: { seconds: 0.02 }`,
      'device: { queues: [{ vcpu: 0, every: 0.0007, core-of: 1 }] }',
    );
    expect([findings(conductor), areSeen(conductor)]).toEqual([[], [true]]);
  });
});

describe('posted, every completion is seen without an exit for it', () => {
  const WAITS = '{ vcpu: 1, at: 0.005, exit: { kind: vmcall } }';
  const HALTS = '{ vcpu: 1, at: 0.005, exit: { kind: hlt }, repeat: { times: 20, every: 0.002 } }';
  const QUEUE = '{ vcpu: 1, every: 0.0007 }';

  it.each([
    ['while the guest runs', '', 'interpose'],
    ['while it is halted', HALTS, 'interpose'],
    ['and once KVM is back, when it waited', WAITS, 'interpose'],
    ['in the attach life cycle', HALTS, 'attach'],
  ])('%s', (_when, script, lifecycle) => {
    for (const hlt of ['ACTIVITY', 'ROOT']) {
      const settings = `hlt: ${hlt}\nlifecycle: ${lifecycle}`;
      const conductor = inTheGap(QUEUE, script, { settings, delivery: 'posted' });
      expect([hlt, findings(conductor), areSeen(conductor)]).toEqual([hlt, [], [true]]);
      const { truth } = conductor.machine.lane(1);
      const { completions } = conductor.machine.evidence;
      const exits = truth.count(EXIT_REASON.EXIT_REASON_EXTERNAL_INTERRUPT, 'fastpath');
      expect(exits).toBeLessThan(completions! / 10);
    }
  });

  it('in a storm, where they coalesce in the descriptor', () => {
    const more = { seconds: 0.004, delivery: 'posted' };
    const conductor = inTheGap('{ vcpu: 0, every: 0.000001 }', '', more);
    expect([findings(conductor), areSeen(conductor)]).toEqual([[], [true]]);
    const { completions, notificationsProcessed } = conductor.machine.evidence;
    expect(notificationsProcessed).toBeLessThanOrEqual(completions!);
  });

  it('and cancelling the update changes nothing', () => {
    const conductor = run(
      `
  - run: { seconds: 0.01 }
  - pause-devices: true
  - preserve: {}
  - gap: { seconds: 0.02 }
  - close-session: true
  - run: { seconds: 0.01 }`,
      'device: { delivery: posted, queues: [{ vcpu: 0, every: 0.0007 }] }',
    );
    expect([findings(conductor), areSeen(conductor)]).toEqual([[], [true]]);
  });
});

describe('a host that has got the descriptor wrong is told', () => {
  const descriptorOf = ({ machine }: Conductor): PostedDescriptor =>
    new PostedDescriptor(machine.memory, machine.lane(0).vcpu.descriptorAddress);
  const lost = /^completions: vCPU 0 .* vector 0x52 has not come/;
  const play = (prepare: Prepare): readonly string[] =>
    findings(inTheGap('{ vcpu: 0, every: 0.003 }', '', { delivery: 'posted', prepare }));

  it('NDST is the core of another vCPU: that one finds nothing in its own', () => {
    const aim = { apicId: 2, vector: 0xf1 };
    const found = play((conductor) => {
      descriptorOf(conductor).aim(aim, false);
    });
    expect(found[0]).toMatch(lost);
  });

  it('SN is left set, as for a vCPU that is preempted: nobody is notified', () => {
    const aim = { apicId: 1, vector: 0xf1 };
    const found = play((conductor) => {
      descriptorOf(conductor).aim(aim, true);
    });
    expect(found[0]).toMatch(lost);
  });

  it('it lies in memory that is not preserved', () => {
    const found = play(({ machine, kernels }) => {
      const page = kernels.kvm.services.allocate({ pages: 1, label: 'struct vcpu_vmx' });
      if (page.ok) machine.lane(0).vmcs.write('POSTED_INTR_DESC_ADDR', page.value);
    });
    expect(found[0]).toMatch(
      /^reachable-preserved: vCPU 0: POSTED_INTR_DESC_ADDR at .* is not preserved/,
    );
  });
});

describe('where the next kernel has no posted interrupts', () => {
  it('the VM is refused and ends, because its guest would lose them', () => {
    const settings = "next-kernel: { lacks: ['POSTED_INTERRUPTS'] }";
    expect(() =>
      inTheGap('{ vcpu: 0, every: 0.003 }', '', { settings, delivery: 'posted' }),
    ).toThrow(/POSTED_INTERRUPTS/);
  });

  it('one whose interrupts are remapped is adopted all the same', () => {
    const settings = "next-kernel: { lacks: ['POSTED_INTERRUPTS'] }";
    const conductor = inTheGap('{ vcpu: 0, every: 0.003 }', '', { settings });
    expect([findings(conductor), areSeen(conductor)]).toEqual([[], [true]]);
  });
});
