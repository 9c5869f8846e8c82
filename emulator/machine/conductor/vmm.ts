/**
 * The VMM: the process that has made the VM, or has it again after an update.
 *
 * Source: the RFC, "API Design & Caretaker Installation"; Linux Documentation/virt/kvm/api.rst.
 * Invariant: every call goes through its descriptors, as a process would make it.
 */
import type { ErrnoName } from '../../../abi/luo.js';
import { DOORBELL } from '../../guest/mix.js';
import { hpaOf } from '../../host/frames.js';
import type { Refusal } from '../../host/kvm/vm.js';
import type { OpenFile } from '../../host/files.js';
import type { Process } from '../../host/process.js';
import type { RemappingEntry } from '../../vmx/interrupt-remapping.js';
import { GUEST_MEMORY_PAGES } from '../guest-memory.js';
import type { Device, DeviceQueue, Scenario } from '../scenario/schema.js';
import type { VmPlan } from '../scenario/vms.js';
import type { Kernels } from './kernels.js';
import { ConductorError, must } from './refusal.js';

const GUEST_MEMORY_BYTES = GUEST_MEMORY_PAGES * 4096;
/** A device of the first VM's guest, passed through: its vector on the host and in the guest. */
export const DEVICE = { id: 1, hostVector: 0x41, guestVector: 0x51, vcpuId: 0 } as const;
/** The vectors of its queues, from the first on: on the host and in the guest. */
export const QUEUE_VECTORS = { host: 0x42, guest: 0x52 } as const;
const TSC_OFFSET = 0x1_0000_0000n;

/** The files of one VM in one process. */
export interface VmFds {
  readonly memory: number;
  readonly vm: number;
  /** Null for a VM without one. */
  readonly device: number | null;
  readonly vcpus: readonly number[];
}

export class Vmm {
  readonly #kernels: Kernels;
  readonly plan: VmPlan;
  readonly process: Process;
  #fds: VmFds | null = null;

  constructor(kernels: Kernels, plan: VmPlan) {
    this.#kernels = kernels;
    this.plan = plan;
    this.process = kernels.kernel.spawn('vmm');
  }

  /** The vcpufd of one of its vCPUs. */
  fdOf(vcpu: number): number {
    return this.fds.vcpus[this.plan.vcpus.indexOf(vcpu)]!;
  }

  get fds(): VmFds {
    return this.#fds!;
  }

  /** Creates the VM with a Caretaker on each vcpufd. @throws ConductorError. */
  createVm(scenario: Scenario, payload: Uint8Array): void {
    const { process, plan } = this;
    const { kvm, memfd, vfio } = this.#kernels.modules;
    const memory = must(memfd.create(process, 'guest-memory', GUEST_MEMORY_BYTES), 'memfd_create');
    const hasDevice = plan.vcpus.includes(DEVICE.vcpuId);
    const device = hasDevice
      ? must(vfio.open(process, DEVICE.id), 'VFIO_GROUP_GET_DEVICE_FD')
      : null;
    const vm = must(
      kvm.createVm(process, {
        lifecycle: scenario.lifecycle,
        cr3: plan.cr3,
        tables: scenario.tables,
        hltPolicy: scenario.hlt,
        tscOffset: TSC_OFFSET,
        shadowStacks: plan.shadowStacks,
        postedInterrupts: scenario.device?.delivery === 'posted',
      }),
      'KVM_CREATE_VM',
    );
    const [run] = memfd.framesOf(process.file(memory)!);
    must(
      kvm.setMemory(process, vm, hpaOf(run!.start), GUEST_MEMORY_BYTES),
      'KVM_SET_USER_MEMORY_REGION',
    );
    if (scenario['dirty-logging'])
      must(kvm.logDirtyPages(process, vm), 'KVM_SET_USER_MEMORY_REGION, KVM_MEM_LOG_DIRTY_PAGES');
    const vcpus: number[] = [];
    this.#fds = { memory, vm, device, vcpus };
    for (const id of plan.vcpus) {
      const fd = must(kvm.createVcpu(process, vm, id), 'KVM_CREATE_VCPU');
      vcpus.push(fd);
      this.#setCaretaker(fd, payload);
    }
  }

  /** VFIO_DEVICE_SET_IRQS: each queue's interrupt is posted, or goes to the core that the host has steered it to. */
  setInterrupts({ queues }: Device): void {
    const vm = this.#kernels.kvm.vmOf(this.process.file(this.fds.vm)!)!;
    const remapped = (queue: DeviceQueue, index: number): RemappingEntry => ({
      kind: 'remapped',
      apicId: vm.vcpus[queue['core-of'] ?? queue.vcpu]!.pcpu,
      vector: QUEUE_VECTORS.host + index,
    });
    const posted = (queue: DeviceQueue, index: number): RemappingEntry => ({
      kind: 'posted',
      descriptor: vm.vcpus[queue.vcpu]!.descriptorAddress,
      vector: QUEUE_VECTORS.guest + index,
      isUrgent: false,
    });
    const entries = queues.map(vm.postsInterrupts ? posted : remapped);
    const { vfio } = this.#kernels.modules;
    must(vfio.setInterrupts(this.#device(), entries), 'VFIO_DEVICE_SET_IRQS');
  }

  /** Where the counts of the device's queues are: the last page of the guest's memory. */
  get completionCounts(): bigint {
    const vm = this.#kernels.kvm.vmOf(this.process.file(this.fds.vm)!)!;
    return vm.mmu.slot!.hpa + BigInt(GUEST_MEMORY_BYTES - 4096);
  }

  /** The guest has booted before a scenario begins: its drivers have touched their devices. */
  bootGuest(): void {
    const vm = this.#kernels.kvm.vmOf(this.process.file(this.fds.vm)!)!;
    vm.mmu.fault(DOORBELL, true);
  }

  /** KVM_PRE_FAULT_MEMORY; the number of pages that were not mapped. @throws ConductorError. */
  prefault(): number {
    return must(this.#kernels.kvm.preFault(this.process, this.fds.vm), 'KVM_PRE_FAULT_MEMORY');
  }

  /** madvise(MADV_DONTNEED) on guest memory. @throws ConductorError. */
  discard(gpa: bigint, pages: number): void {
    const gone = this.#kernels.kvm.invalidateRange(this.process, this.fds.vm, gpa, pages * 4096);
    must(gone, 'madvise(MADV_DONTNEED)');
  }

  /** KVM_GET_DIRTY_LOG. @throws ConductorError. */
  dirtyLog(): readonly bigint[] {
    return must(this.#kernels.kvm.dirtyLog(this.process, this.fds.vm), 'KVM_GET_DIRTY_LOG');
  }

  /** The process ends, and its address space with it. */
  exit(): void {
    this.process.exit();
    this.#kernels.kvm.addressSpaceGone(this.process.pid);
  }

  /** KVM_RUN on each vCPU's thread. @throws ConductorError. */
  run(): void {
    for (const fd of this.fds.vcpus) must(this.#kernels.kvm.run(this.process, fd), 'KVM_RUN');
  }

  /** KVM_SET_CARETAKER and KVM_RUN on a vCPU that is parked. @throws ConductorError. */
  restart(id: number, payload: Uint8Array): void {
    const fd = this.fdOf(id);
    this.#setCaretaker(fd, payload);
    must(this.#kernels.kvm.run(this.process, fd), 'KVM_RUN');
  }

  /** KVM_SET_CARETAKER on a vCPU that runs: null, or the errno and the kernel's reason. */
  update(
    id: number,
    payload: Uint8Array,
  ): { readonly errno: ErrnoName | null; readonly why: string } {
    const { kvm } = this.#kernels;
    const set = kvm.setCaretaker(this.process, this.fdOf(id), payload);
    if (set.ok) return { errno: null, why: '' };
    return { errno: set.errno, why: this.#lastRefusal()?.message ?? 'refused' };
  }

  /** Takes files that another process holds, or that were retrieved. */
  take(fds: VmFds): void {
    this.#fds = fds;
  }

  /** SCM_RIGHTS: another process gets descriptors of the same files. @throws ConductorError. */
  shareWith(other: Process): VmFds {
    return passFds(this.process, this.fds, other);
  }

  pauseDevice(): void {
    const { device } = this.fds;
    if (device === null) return;
    must(this.#kernels.modules.vfio.pause(this.process.file(device)!), 'VFIO pause');
  }

  keepDeviceRunning(): void {
    must(this.#kernels.modules.vfio.keepRunning(this.#device()), 'VFIO keep running');
  }

  resumeDevice(): void {
    const { device } = this.fds;
    if (device === null) return;
    must(this.#kernels.modules.vfio.resume(this.process.file(device)!), 'VFIO resume');
  }

  /** The device, which the VM has. */
  #device(): OpenFile {
    return this.process.file(this.fds.device!)!;
  }

  #lastRefusal(): Refusal | null {
    return this.#kernels.kvm.vmOf(this.process.file(this.fds.vm)!)?.lastRefusal ?? null;
  }

  #setCaretaker(fd: number, payload: Uint8Array): void {
    const { kvm } = this.#kernels;
    const set = kvm.setCaretaker(this.process, fd, payload);
    if (set.ok) return;
    const refusal = this.#lastRefusal();
    throw new ConductorError(
      'PAYLOAD_REFUSED',
      `KVM_SET_CARETAKER: -${set.errno}: ${refusal?.message ?? 'refused'}`,
      { errno: set.errno, code: refusal?.error?.code ?? 'INIT_FAILED', ...refusal?.error?.details },
    );
  }
}

/** SCM_RIGHTS over a VM's files. @throws ConductorError. */
export function passFds(from: Process, fds: VmFds, to: Process): VmFds {
  const pass = (fd: number): number => must(to.installFile(from.file(fd)!), 'SCM_RIGHTS');
  return {
    memory: pass(fds.memory),
    vm: pass(fds.vm),
    device: fds.device === null ? null : pass(fds.device),
    vcpus: fds.vcpus.map(pass),
  };
}
