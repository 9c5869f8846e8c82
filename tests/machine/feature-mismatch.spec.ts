/** A next kernel that lacks what a VM runs on: refused before anything of it is taken over, and ended without a trace. */
import { describe, expect, it } from 'vitest';
import { toIndex } from '../../abi/uint.js';
import { Conductor, ConductorError } from '../../emulator/machine/conductor.js';
import { parseScenario } from '../../emulator/machine/scenario/load.js';
import { referencePayload } from '../support/reference-payload.js';

interface Update {
  readonly next: string;
  readonly refused: readonly string[];
  /** What happens in the gap. */
  readonly script?: string;
  readonly settings?: string;
  /** Steps before kexec. */
  readonly before?: string;
}

/** Two VMs of two vCPUs each, the first on shadow stacks, across a kexec. */
const conductorOf = ({ next, refused, script = '', settings = '', before = '' }: Update) => {
  const retrieve =
    refused.length === 0
      ? 'true'
      : `{ refused: [${refused.map((errno, vm) => `{ vm: ${vm}, expect: ${errno} }`).join(', ')}] }`;
  const after =
    refused.length === 2 ? '' : ', { finish: true }, { run: { exits: 100, mix: busy } }';
  return new Conductor(
    parseScenario(
      `
name: mismatch
description: a next kernel that lacks something
vcpus: 4
vms: [{ vcpus: 2, shadow-stacks: true }, { vcpus: 2 }]
seed: 5
next-kernel: { ${next} }
${settings}
steps: [
  { run: { exits: 200 } }, { pause-devices: true }, { preserve: { mix: busy-gap, rate: 1000 } }, { vmm-exit: true },
  ${before} { kexec: { seconds: 0.1, script: [${script}] } },
  { retrieve: ${retrieve} } ${after}
]`,
      'mismatch.yaml',
    ),
    referencePayload(),
    false,
  );
};

const run = (update: Update): Conductor => {
  const conductor = conductorOf(update);
  conductor.run();
  return conductor;
};
const reasonOf = ({ kernels }: Conductor): string | undefined => kernels.kvm.lastMismatch?.why;
/** Labels of pages that are somebody's, of those vCPUs and that VM. */
const left = ({ machine }: Conductor, who: RegExp): readonly string[] =>
  machine.memory.regions().flatMap(({ label }) => (who.test(label) ? [label] : []));

describe('a VM is refused with the reason when the next kernel', () => {
  // prettier-ignore
  it.each([
    ['has no shadow stacks, where KVM gave them',    'lacks: [SHADOW_STACK]',     ['EOPNOTSUPP'],                           /uses SHADOW_STACK,/],
    ['runs without x2APIC',                          'lacks: [X2APIC]',           ['EOPNOTSUPP', 'EOPNOTSUPP'],             /uses X2APIC,/],
    ['has no preemption timer',                      'lacks: [PREEMPTION_TIMER]', ['EOPNOTSUPP', 'EOPNOTSUPP'],             /uses PREEMPTION_TIMER,/],
    ['finds its TSC unstable',                       'lacks: [INVARIANT_TSC]',    ['EOPNOTSUPP', 'EOPNOTSUPP'],             /uses INVARIANT_TSC,/],
    ['lacks several things, which are all named',    'lacks: [ACK_ON_EXIT, HLT_ACTIVITY]', ['EOPNOTSUPP', 'EOPNOTSUPP'],    /uses ACK_ON_EXIT, HLT_ACTIVITY,/],
    ['speaks another version of the control block',  'speaks: { ccb: 99 }',       ['EPROTONOSUPPORT', 'EPROTONOSUPPORT'],   /caretaker_ccb in version \d+; .* 99$/],
    ['speaks another version of the configuration',  'speaks: { config: 99 }',    ['EPROTONOSUPPORT', 'EPROTONOSUPPORT'],   /caretaker_config in version 2; .* 99$/],
    ['speaks another version of telemetry',          'speaks: { telemetry: 7 }',  ['EPROTONOSUPPORT', 'EPROTONOSUPPORT'],   /caretaker_telemetry in version/],
    ['speaks another version of soft state',         'speaks: { soft-state: 7 }', ['EPROTONOSUPPORT', 'EPROTONOSUPPORT'],   /caretaker_soft_state in version/],
  ])('%s', (_title, next, refused, why) => {
    const conductor = run({ next, refused });
    const { ledger, evidence } = conductor.machine;
    expect(ledger.findings).toEqual([]);
    expect(reasonOf(conductor)).toMatch(why);
    expect(evidence['vmsRefused']).toBe(refused.length);
    expect(evidence['vcpusTerminated']).toBe(2 * refused.length);
  });

  it('lacks only what nobody uses: all are adopted', () => {
    const conductor = run({ next: 'lacks: [TSC_SCALING]', refused: [] });
    expect(conductor.machine.ledger.findings).toEqual([]);
    expect(reasonOf(conductor)).toBeUndefined();
  });

  it('has all: a scenario that expects a refusal says that none came', () => {
    expect(() => run({ next: '', refused: ['EOPNOTSUPP'] })).toThrow(ConductorError);
  });

  it('lacks it, and nobody expects so: the scenario ends with the reason', () => {
    expect(() => run({ next: 'lacks: [SHADOW_STACK]', refused: [] })).toThrow(
      /it uses SHADOW_STACK/,
    );
  });
});

describe('nothing is half-adopted', () => {
  const next = 'lacks: [SHADOW_STACK]';
  const refused = ['EOPNOTSUPP'];

  it('memory, tables and records are free, and as little is left unrestored as after any update', () => {
    const conductor = run({ next, refused });
    expect(left(conductor, /vCPU [01] |VM 0 /)).toEqual([]);
    expect(left(conductor, /vCPU [23] /).length).toBeGreaterThan(10);
    const guest = conductor.machine.memory.regions().filter(({ label }) => label === 'memfd');
    expect(guest.reduce((bytes, { sizeBytes }) => bytes + sizeBytes, 0)).toBe(64 * 4096);
    const unrestored = ({ kernels }: Conductor): number =>
      kernels.kernel.khoIn.unrestoredFrames().reduce((sum, { count }) => sum + count, 0);
    expect(unrestored(conductor)).toBe(unrestored(run({ next: '', refused: [] })));
  });

  it('a vCPU that does not stop keeps its core and all that it can reach', () => {
    const conductor = conductorOf({ next, refused });
    const { machine } = conductor;
    const { kvmHost } = machine;
    const waitFor = kvmHost.waitFor.bind(kvmHost);
    const isOld = (): boolean => conductor.kernels.kernel.config.generation === 'old';
    kvmHost.waitFor = (holds) => isOld() && waitFor(holds);
    expect(() => {
      conductor.run();
    }).toThrow(/LIVEUPDATE_SESSION_FINISH: -EBUSY/);
    const [finding] = machine.ledger.findings;
    expect([finding?.invariant, finding?.message]).toEqual([
      'bounded',
      'VM 0: a vCPU that is to end does not stop and serialize itself',
    ]);
    expect(machine.evidence['vcpusTerminated']).toBeUndefined();
    const { hotplug } = conductor.kernels.kernel;
    expect([1, 2].map((cpu) => hotplug.stateOf(cpu))).toEqual(['workload', 'workload']);
    for (const { hpa } of machine.lane(0).vcpu.memory.all())
      expect(machine.memory.regionAt(toIndex(hpa))).toBeDefined();
  });

  // prettier-ignore
  it.each([
    ['halted in the guest',          '{ vcpu: 0, at: 0.09, exit: { kind: hlt } }', ''],
    ['halted in root operation',     '{ vcpu: 0, at: 0.09, exit: { kind: hlt } }', 'hlt: ROOT'],
    ['waiting for KVM',              '{ vcpu: 0, at: 0.05, exit: { kind: vmcall } }', ''],
    ['waiting, an INIT pending',     '{ vcpu: 0, at: 0.05, exit: { kind: vmcall } }, { vcpu: 0, at: 0.06, event: { kind: init } }', ''],
    ['parked by a fault of its own', '{ vcpu: 0, at: 0.05, event: { kind: exception, vector: GP }, instruction: 40 }', ''],
    ['on the host tables attached',  '', 'cr3: shared-until-detach'],
    ['one of the attach life cycle', '', 'lifecycle: attach'],
  ])('a vCPU that is %s ends like any other', (_title, script, settings) => {
    const conductor = run({ next, refused, script, settings });
    expect(conductor.machine.ledger.findings).toEqual([]);
    expect(left(conductor, /vCPU [01] /)).toEqual([]);
  });

  it('a vCPU that was stopped before the kexec is not asked again', () => {
    const conductor = run({ next, refused, before: '{ stop: { vcpu: 1 } },' });
    expect(conductor.machine.ledger.findings).toEqual([]);
    expect(conductor.machine.evidence['vcpusTerminated']).toBe(2);
  });
});
