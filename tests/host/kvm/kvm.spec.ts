/** KVM's calls around a Caretaker, each refusal with its errno and with nothing lost. */
import { beforeEach, describe, expect, it } from 'vitest';
import { CARETAKER_ATTACH_STATE } from '../../../abi/ccb.js';
import type { Kvm } from '../../../emulator/host/kvm/kvm.js';
import { createSession, openLiveupdate, preserveFd } from '../../../emulator/host/luo/agent.js';
import type { Process } from '../../../emulator/host/process.js';
import { Conductor } from '../../../emulator/machine/conductor.js';
import { parseScenario } from '../../../emulator/machine/scenario/load.js';
import { IDLE, MixGuest } from '../../../emulator/guest/mix.js';
import { referencePayload } from '../../support/reference-payload.js';

const scenario = parseScenario(
  'name: calls\ndescription: none runs\nvcpus: 2\nsteps: [{ run: { exits: 0 } }]\n',
  'calls.yaml',
);
const settings = {
  lifecycle: 'interpose',
  cr3: 'isolated',
  tables: 'always',
  hltPolicy: 'ACTIVITY',
  tscOffset: 0n,
  shadowStacks: false,
  postedInterrupts: false,
} as const;

let conductor: Conductor;
let kvm: Kvm;
let vmm: Process;

beforeEach(() => {
  conductor = new Conductor(scenario, referencePayload(), false);
  conductor.machine.guestOf = (id) =>
    new MixGuest({
      mix: IDLE,
      seed: id + 1,
      meanTicks: 1e6,
      otherApicIds: [],
      deviceVectors: [0xef],
      memoryPages: 64,
    });
  kvm = conductor.machine.kvm!;
  vmm = conductor.kernels.kernel.spawn('vmm');
});

const must = <T>(result: { ok: true; value: T } | { ok: false; errno: string }): T => {
  if (!result.ok) throw new Error(`${result.errno}: ${kvm.vms[0]?.lastRefusal?.message ?? ''}`);
  return result.value;
};
const refusal = (result: { ok: boolean; errno?: string }): string | undefined => result.errno;
const vmWithVcpu = (): { vm: number; vcpu: number } => {
  const vm = must(kvm.createVm(vmm, settings));
  return { vm, vcpu: must(kvm.createVcpu(vmm, vm, 0)) };
};
const session = (): number => {
  const device = must(openLiveupdate(vmm));
  return must(createSession(vmm, device, 'vm-0'));
};

describe('KVM_SET_CARETAKER', () => {
  it('on a vcpufd after the vmfd is EINVAL: the two do not mix', () => {
    const { vm, vcpu } = vmWithVcpu();
    must(kvm.setCaretaker(vmm, vm, referencePayload()));
    expect(refusal(kvm.setCaretaker(vmm, vcpu, referencePayload()))).toBe('EINVAL');
  });

  it('on a vmfd after a vcpufd is EINVAL', () => {
    const { vm, vcpu } = vmWithVcpu();
    must(kvm.setCaretaker(vmm, vcpu, referencePayload()));
    expect(refusal(kvm.setCaretaker(vmm, vm, referencePayload()))).toBe('EINVAL');
  });

  it('twice on one fd is EEXIST', () => {
    const { vcpu } = vmWithVcpu();
    must(kvm.setCaretaker(vmm, vcpu, referencePayload()));
    expect(refusal(kvm.setCaretaker(vmm, vcpu, referencePayload()))).toBe('EEXIST');
  });

  it('on a vmfd installs on vCPUs that are created later', () => {
    const { vm } = vmWithVcpu();
    must(kvm.setCaretaker(vmm, vm, referencePayload()));
    must(kvm.createVcpu(vmm, vm, 1));
    expect(kvm.findVcpu(1)?.vcpu.hasCaretaker).toBe(true);
  });

  it("of a file that the loader refuses is ENOEXEC, with the loader's code, and nothing is allocated", () => {
    const { vcpu } = vmWithVcpu();
    const free = conductor.kernels.kernel.allocator.freePages();
    const file = referencePayload().slice();
    file[18] = 3; // e_machine
    expect(refusal(kvm.setCaretaker(vmm, vcpu, file))).toBe('ENOEXEC');
    expect(kvm.vms[0]?.lastRefusal?.error?.code).toBe('ELF_BAD_MACHINE');
    expect(conductor.kernels.kernel.allocator.freePages()).toBe(free);
  });

  it('on a descriptor of something else is EBADF', () => {
    expect(refusal(kvm.setCaretaker(vmm, 99, referencePayload()))).toBe('EBADF');
  });

  it('gives each vCPU an instance of its own, whose CCB the stack and GS base find', () => {
    const { vm, vcpu } = vmWithVcpu();
    const other = must(kvm.createVcpu(vmm, vm, 1));
    for (const fd of [vcpu, other]) must(kvm.setCaretaker(vmm, fd, referencePayload()));
    const [a, b] = [kvm.findVcpu(0)!.vcpu, kvm.findVcpu(1)!.vcpu];
    expect(a.ccb).not.toBe(b.ccb);
    for (const one of [a, b]) {
      expect(conductor.machine.memory.readU64(one.memory.at('stack'))).toBe(one.ccb);
      expect(one.ccbView.get('idt_base')).not.toBe(0n);
    }
  });
});

describe('KVM_RUN', () => {
  it('without a Caretaker is EOPNOTSUPP: this laboratory runs vCPUs through one', () => {
    const { vcpu } = vmWithVcpu();
    expect(refusal(kvm.run(vmm, vcpu))).toBe('EOPNOTSUPP');
  });

  it('of a vCPU that runs is EBUSY, and a Caretaker can no longer be set', () => {
    const { vcpu } = vmWithVcpu();
    must(kvm.setCaretaker(vmm, vcpu, referencePayload()));
    must(kvm.run(vmm, vcpu));
    expect(refusal(kvm.run(vmm, vcpu))).toBe('EBUSY');
  });

  it('publishes routing pointers, then KVM_ATTACHED, and counts an epoch', () => {
    const { vcpu } = vmWithVcpu();
    must(kvm.setCaretaker(vmm, vcpu, referencePayload()));
    must(kvm.run(vmm, vcpu));
    const ccb = kvm.findVcpu(0)!.vcpu.ccbView;
    expect(ccb.number('attach_state')).toBe(CARETAKER_ATTACH_STATE.KVM_ATTACHED);
    expect(ccb.get('epoch')).toBe(1n);
    expect(ccb.get('routing_handler')).toBe(conductor.kernels.kernel.image.address('kvm_vmexit'));
  });
});

describe('LIVEUPDATE_SESSION_PRESERVE_FD', () => {
  it('of a vcpufd before its vmfd is EINVAL, and the vCPU runs on', () => {
    const { vcpu } = vmWithVcpu();
    must(kvm.setCaretaker(vmm, vcpu, referencePayload()));
    must(kvm.run(vmm, vcpu));
    expect(refusal(preserveFd(vmm, session(), vcpu, 1n))).toBe('EINVAL');
    expect(kvm.findVcpu(0)?.vcpu.state).toBe('running');
  });

  it('of a vcpufd without a Caretaker is EOPNOTSUPP', () => {
    const { vm, vcpu } = vmWithVcpu();
    const fd = session();
    must(preserveFd(vmm, fd, vm, 1n));
    expect(refusal(preserveFd(vmm, fd, vcpu, 2n))).toBe('EOPNOTSUPP');
  });

  it('isolates the core: offline, not present, KVM_DETACHED, in the guest; closing the session brings it back', () => {
    const { vm, vcpu } = vmWithVcpu();
    must(kvm.setCaretaker(vmm, vcpu, referencePayload()));
    must(kvm.run(vmm, vcpu));
    const fd = session();
    must(preserveFd(vmm, fd, vm, 1n));
    must(preserveFd(vmm, fd, vcpu, 2n));
    const found = kvm.findVcpu(0)!.vcpu;
    expect(found.isAttached).toBe(false);
    expect(conductor.kernels.kernel.hotplug.stateOf(found.pcpu)).toBe('workload');
    expect(conductor.machine.lane(0).phase).toBe('guest');
    must(vmm.close(fd));
    expect(found.isAttached).toBe(true);
    expect(found.state).toBe('running');
    expect(conductor.kernels.kernel.hotplug.stateOf(found.pcpu)).toBe('online');
  });
});
