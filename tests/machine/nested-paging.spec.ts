/** Guests that touch memory, across a live update: what blocks, who may change the tables, and who must be stopped first. */
import { describe, expect, it } from 'vitest';
import { Conductor, ConductorError } from '../../emulator/machine/conductor.js';
import { parseScenario } from '../../emulator/machine/scenario/load.js';
import { VMCS_SLOT } from '../../abi/vmcs-fields.js';
import { EXIT_REASON } from '../../abi/exit-reasons.js';
import { referencePayload } from '../support/reference-payload.js';

const conductorOf = (steps: string, settings = ''): Conductor =>
  new Conductor(
    parseScenario(
      `
name: nested
description: Accesses to memory.
vcpus: 2
seed: 31
mix: idle
rate: 200
${settings}
steps:
${steps}`,
      'nested.yaml',
    ),
    referencePayload(),
    false,
  );

function run(steps: string, settings = ''): Conductor {
  const conductor = conductorOf(steps, settings);
  conductor.run();
  return conductor;
}

const access = (at: number, what: string, vcpu = 0): string =>
  `{ vcpu: ${vcpu}, at: ${at}, exit: { kind: access, ${what} } }`;

const GAP = (script: string): string => `
  - run: { seconds: 0.01 }
  - prefault: true
  - pause-devices: true
  - preserve: {}
  - gap: { seconds: 0.1, script: [${script}] }`;

const blocked = ({ machine }: Conductor): readonly number[] =>
  machine.lanes.map(({ truth }) => truth.total('blocked'));
const messages = ({ machine }: Conductor): readonly string[] =>
  machine.ledger.findings.map(({ invariant, message }) => `${invariant}: ${message}`);

describe('in the gap', () => {
  it('memory that was prefaulted is touched without an exit', () => {
    const conductor = run(GAP(access(0.01, 'gpa: 0, pages: 64')));
    expect([blocked(conductor), messages(conductor)]).toEqual([[0, 0], []]);
    expect(conductor.machine.evidence['guestAccesses']).toBe(64);
  });

  it('a page that is not mapped blocks, with what hardware reports of it', () => {
    const steps = GAP(access(0.01, 'gpa: 0x5000, access: read', 1)).replace('- prefault: true', '');
    const conductor = run(steps.replace(/\n +\n/, '\n'));
    const { vmcs } = conductor.machine.lane(1);
    const fields = ['VM_EXIT_REASON', 'EXIT_QUALIFICATION', 'GUEST_PHYSICAL_ADDRESS'] as const;
    expect(blocked(conductor)).toEqual([0, 1]);
    expect(fields.map((name) => vmcs.get(VMCS_SLOT[name]))).toEqual([
      BigInt(EXIT_REASON.EXIT_REASON_EPT_VIOLATION),
      0xd81n,
      0x5000n,
    ]);
  });

  it('the guest is at the same page again once KVM is back, and then goes on to the next', () => {
    const gap = GAP(access(0.01, 'gpa: 0x5000, pages: 3')).replace('- prefault: true', '');
    const conductor = run(
      `${gap.replace(/\n +\n/, '\n')}\n  - close-session: true\n  - run: { seconds: 0.01 }`,
    );
    // The first exits and is tried again; the two behind it exit to KVM and are tried again.
    expect([blocked(conductor), conductor.machine.evidence['guestAccesses']]).toEqual([[1, 0], 6]);
    expect(messages(conductor)).toEqual([]);
  });

  it("a device's page blocks as a misconfiguration", () => {
    const conductor = run(GAP(access(0.01, 'gpa: 0xfe003000')));
    const { truth } = conductor.machine.lane(0);
    expect(truth.count(EXIT_REASON.EXIT_REASON_EPT_MISCONFIG, 'blocked')).toBe(1);
  });
});

describe('madvise', () => {
  const taken = `${GAP(access(0.01, 'gpa: 0, pages: 64'))}
  - madvise: { gpa: 0x5000, pages: 1 }`;
  const after = `
  - gap: { seconds: 0.1, script: [${access(0.01, 'gpa: 0x5000')}, ${access(0.01, 'gpa: 0x6000', 1)}] }`;

  it('in the gap stops each vCPU first, and only the page that is gone blocks', () => {
    const conductor = run(`${taken}${after}\n  - close-session: true\n  - run: { seconds: 0.01 }`);
    expect([blocked(conductor), messages(conductor)]).toEqual([[1, 0], []]);
    expect(conductor.machine.evidence['serialized']).toBe(2);
  });

  it('of a KVM that does not is a guest with memory that is no longer its own', () => {
    const conductor = run(taken + after, 'mmu-notifier: unaware');
    expect(blocked(conductor)).toEqual([0, 0]);
    expect(messages(conductor)).toEqual([
      expect.stringMatching(/^nested-tables: vCPU 0: .* still translates gpa 0x5000/),
    ]);
  });

  it('while attached leaves no translation behind either', () => {
    const conductor = run(`
  - run: { seconds: 0.01, script: [${access(0.001, 'gpa: 0x5000')}] }
  - madvise: { gpa: 0x5000, pages: 1 }
  - run: { seconds: 0.01, script: [${access(0.001, 'gpa: 0x5000')}] }`);
    const { truth } = conductor.machine.lane(0);
    expect(truth.count(EXIT_REASON.EXIT_REASON_EPT_VIOLATION, 'routed')).toBe(2);
    expect(messages(conductor)).toEqual([]);
  });

  it('fails with ETIMEDOUT when a vCPU does not stop, and takes nothing', () => {
    const conductor = conductorOf(taken);
    const { machine } = conductor;
    const waitFor = machine.kvmHost.waitFor.bind(machine.kvmHost);
    machine.kvmHost.waitFor = (holds) => (holds() ? waitFor(holds) : false);
    expect(() => {
      conductor.run();
    }).toThrow(expect.objectContaining<Partial<ConductorError>>({ code: 'HOST_REFUSED' }) as Error);
    const vm = conductor.kernels.kvm.vms[0]!;
    expect(vm.mmu.prefault()).toBe(0);
  });
});

describe("the VMM's exit", () => {
  const exit = `${GAP('')}
  - vmm-exit: true
  - kexec: { seconds: 0.3, script: [${access(0.2, 'gpa: 0, pages: 64')}] }`;

  it('leaves the tables to the vCPUs that run alone', () => {
    const conductor = run(exit);
    expect([blocked(conductor), messages(conductor)]).toEqual([[0, 0], []]);
  });

  it('clears them with a KVM that knows of none', () => {
    const conductor = run(exit, 'mmu-notifier: unaware');
    expect(blocked(conductor)).toEqual([1, 0]);
    expect(messages(conductor)[0]).toMatch(/nested-tables: .* when the gap began and is 0x0/);
  });
});

describe('the dirty log', () => {
  const update = (script: string): string => `
  - run: { seconds: 0.05, script: [${access(0.01, 'gpa: 0, pages: 3')}] }
  - prefault: true
  - pause-devices: true
  - preserve: {}
  - vmm-exit: true
  - kexec: { seconds: 0.3, script: [${script}] }
  - retrieve: true
  - finish: true
  - run: { seconds: 0.05, script: [${access(0.01, 'gpa: 0x3f000', 1)}] }`;

  it('has what was written before, in and after the gap, in which no write exits', () => {
    const conductor = run(update(access(0.1, 'gpa: 0x10000, pages: 4')), 'dirty-logging: true');
    expect([blocked(conductor), messages(conductor)]).toEqual([[0, 0], []]);
    const pages = conductor.vmm.dirtyLog();
    expect(pages).toEqual([0n, 0x1000n, 0x2000n, 0x10000n, 0x11000n, 0x12000n, 0x13000n, 0x3f000n]);
  });

  it('goes on by write protection in the same kernel when the update is cancelled', () => {
    const steps = `${GAP(access(0.01, 'gpa: 0x8000, pages: 2'))}
  - close-session: true
  - run: { seconds: 0.05, script: [${access(0.01, 'gpa: 0x20000')}] }`;
    const conductor = run(steps, 'dirty-logging: true');
    expect(conductor.vmm.dirtyLog()).toEqual([0x8000n, 0x9000n, 0x20000n]);
    expect(conductor.kernels.kvm.vms[0]!.mmu.logging).toBe('write-protect');
  });
});

describe('a snapshot', () => {
  it('has what cores have cached: a run from it is the same run', () => {
    const conductor = conductorOf(GAP(access(0.01, 'gpa: 0, pages: 64')));
    const { machine } = conductor;
    const counts: number[] = [];
    const atGap = (): void => {
      const before = machine.snapshot();
      for (let round = 0; round < 2; round++) {
        machine.restore(before);
        const action = {
          kind: 'access',
          after: 0,
          pages: 64,
          access: { gpa: 0n, gla: 0n, kind: 'write' },
        } as const;
        machine.guests.script(machine.lane(0), action);
        machine.runFor(1_000_000);
        counts.push(machine.cores[1]!.pcpu.eptTlb.state().size);
      }
      machine.restore(before);
      counts.push(machine.cores[1]!.pcpu.eptTlb.state().size);
    };
    conductor.run();
    machine.structureChanged();
    atGap();
    expect(counts).toEqual([64, 64, 64]);
  });
});
