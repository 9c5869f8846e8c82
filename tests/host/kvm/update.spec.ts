/** Caretaker update: the context goes over, the old pages are poisoned, and what fails leaves everything as it was. */
import { beforeEach, describe, expect, it } from 'vitest';
import { CARETAKER_CCB_VERSION, CARETAKER_REGISTER_ORDER } from '../../../abi/ccb.js';
import type { KvmVcpu } from '../../../emulator/host/kvm/vcpu.js';
import { OPEN_POLICY } from '../../../emulator/host/integrity/admission.js';
import { replayLog } from '../../../emulator/host/integrity/ima.js';
import { Conductor } from '../../../emulator/machine/conductor.js';
import { brokenPayload } from '../../../emulator/machine/conductor/broken-payload.js';
import { parseScenario } from '../../../emulator/machine/scenario/load.js';
import { referencePayload } from '../../support/reference-payload.js';

const scenario = parseScenario(
  'name: update\ndescription: two vCPUs run\nvcpus: 2\nsteps: [{ run: { exits: 50 } }]\n',
  'update.yaml',
);

let conductor: Conductor;

beforeEach(() => {
  conductor = new Conductor(scenario, referencePayload(), false);
  conductor.run();
});

const vcpu = (id: number): KvmVcpu => conductor.kernels.kvm.findVcpu(id)!.vcpu;
const update = (id: number, payload: Uint8Array): string | null =>
  conductor.vmm.update(id, payload).errno;
/** Runs on, and gives what was found wrong. */
function goOn(): readonly string[] {
  const { machine } = conductor;
  const target = conductor.exits() + 60;
  expect(machine.runUntil(() => conductor.exits() >= target, machine.now() + 2e9)).toBe(true);
  return machine.ledger.findings.map(({ invariant, message }) => `${invariant}: ${message}`);
}
const counted = (id: number): bigint => vcpu(id).telemetry.get('total.fastpath');

describe('an update', () => {
  it('puts a fresh instance in the place of the old one, which is poisoned and free', () => {
    const { memory } = conductor.machine;
    const { hpa, pages } = vcpu(0).memory.instance;
    const before = counted(0);
    expect(update(0, referencePayload())).toBeNull();
    expect(vcpu(0).memory.instance.hpa).not.toBe(hpa);
    for (let n = 0; n < pages; n++)
      expect(memory.readU64(hpa + BigInt(n * 4096))).toBe(0xaaaa_aaaa_aaaa_aaaan);
    expect(memory.regionAt(Number(hpa))?.label ?? 'free').not.toContain('instance');
    expect(goOn()).toEqual([]);
    expect(counted(0)).toBeGreaterThan(before);
  });

  it('carries the registers and the epoch over, and leaves the other vCPU alone', () => {
    const { value: stopped } = { value: conductor.kernels.kvm.stopAndResume(0) };
    expect(stopped.ok).toBe(true);
    const epoch = vcpu(0).ccbView.get('epoch');
    const other = vcpu(1).memory.instance.hpa;
    expect(update(0, referencePayload())).toBeNull();
    expect(vcpu(0).ccbView.get('epoch')).toBe(epoch + 1n);
    expect(vcpu(1).memory.instance.hpa).toBe(other);
    expect(CARETAKER_REGISTER_ORDER).toHaveLength(15);
    // The guest checks its own registers at each entry: guest-registers would say what was lost.
    expect(goOn()).toEqual([]);
  });

  it.each([
    ['machine', 'ENOEXEC'],
    ['init', 'EIO'],
    ['fault', 'EIO'],
  ] as const)(
    'of a file that is broken (%s) is refused with %s, and the old payload goes on',
    (what, errno) => {
      const { hpa } = vcpu(0).memory.instance;
      const { ccb } = vcpu(0);
      const free = conductor.kernels.kernel.allocator.state();
      expect(update(0, brokenPayload(referencePayload(), what))).toBe(errno);
      expect(vcpu(0).memory.instance.hpa).toBe(hpa);
      expect(vcpu(0).ccb).toBe(ccb);
      expect(conductor.kernels.kernel.allocator.state()).toEqual(free);
      expect(goOn()).toEqual([]);
      // And a good one is taken after it.
      expect(update(0, referencePayload())).toBeNull();
      expect(goOn()).toEqual([]);
    },
  );

  it('of a vCPU whose control block has a higher version is refused: versions only rise', () => {
    vcpu(0).ccbView.set('header.version', CARETAKER_CCB_VERSION + 1);
    expect(update(0, referencePayload())).toBe('EINVAL');
    expect(conductor.kernels.kvm.vms[0]!.lastRefusal?.message).toContain('version-lowered');
  });

  it('is measured, each time, whether or not it succeeds', () => {
    const { ima } = conductor.kernels.kvm.admissions;
    const count = (): number => ima.text.trimEnd().split('\n').length;
    const before = count();
    update(0, brokenPayload(referencePayload(), 'machine'));
    update(0, referencePayload());
    expect(count()).toBe(before + 2);
    expect(replayLog(ima.text)).toMatchObject({ ok: true, pcr: ima.pcr });
    const file = conductor.kernels.kernel.debugfs.read('ima/ascii_runtime_measurements_sha256');
    expect(file).toEqual({ ok: true, value: ima.text });
  });
});

describe('a locked-down kernel', () => {
  it('refuses a payload without a signature before it looks into it', () => {
    const integrity = { ...OPEN_POLICY, lockdown: 'integrity' } as const;
    const locked = new Conductor(scenario, referencePayload(), false, { integrity });
    expect(() => {
      locked.run();
    }).toThrow(/KVM_SET_CARETAKER: -EPERM: the file is not signed; the kernel is locked down/);
  });
});
