/**
 * KVM in one kernel: /dev/kvm's calls, the files behind VMs and vCPUs, and their part in a live update.
 *
 * Source: Linux virt/kvm/kvm_main.c; the RFC, "API Design & Caretaker Installation".
 * Invariant: a vCPU's file keeps its VM alive; a file that LUO holds outlives the VMM's process.
 * Not modelled: ioctl numbers and structures of /dev/kvm; its calls are typed methods.
 */
import { KVM_VCPU_STATE } from '../../../abi/kvm-state.js';
import type { FileHolder, OpenFile } from '../files.js';
import { pfnOf } from '../frames.js';
import { KERNEL_ENTRY_BYTES } from '../kernel-image.js';
import type { Kernel } from '../kernel.js';
import type { Process } from '../process.js';
import { Admissions, OPEN_POLICY, type IntegrityPolicy } from '../integrity/admission.js';
import { DONE, ok, refuse, type Result } from '../result.js';
import { VcpuFileHandler, VmFileHandler } from './luo-files.js';
import type { KvmCpu, KvmKernel, KvmMachine } from './ports.js';
import type { ClockPolicy } from './pv-clock.js';
import { invalidateRange, release, type NotifierPolicy } from './mmu-notifier.js';
import { WHOLE_OFFER, type Mismatch, type Offer } from './negotiation.js';
import { resumeParked, type ParkedPolicy } from './parked.js';
import { renderTelemetry } from './telemetry-file.js';
import { canBeUpdated, updateCaretaker } from './update.js';
import type { KvmVcpu } from './vcpu.js';
import { getState, setState, type VcpuStateBytes } from './vcpu-state.js';
import { forwardInterrupt, kickIfRun, moveVcpu, requestStop, startVcpu } from './vcpu-run.js';
import { KvmVm, type VmSettings } from './vm.js';

/** How a kernel's KVM is built. */
export interface KvmConfig {
  /** Whether this kernel's tables map all of memory; not unless said otherwise. */
  readonly directMap?: boolean;
  /** What it has for payloads; everything unless said otherwise. */
  readonly offer?: Offer;
  /** For vCPUs that come from another kernel parked; `kill` unless said otherwise. */
  readonly parkedPolicy?: ParkedPolicy;
  /** What it does when the host takes guest memory back; `aware` unless said otherwise. */
  readonly notifier?: NotifierPolicy;
  /** For the clocks of VMs that come from another kernel; `carried` unless said otherwise. */
  readonly clockPolicy?: ClockPolicy;
  readonly time?: KernelTime;
  readonly irqRoutes: VmSettings['irqRoutes'];
  /** Who may install which payload; without one the kernel measures and takes unsigned files. */
  readonly integrity?: IntegrityPolicy;
}

/** How a kernel's own clocks differ from the machine's. */
export interface KernelTime {
  /** By how much it has calibrated the TSC too fast. */
  readonly ppm: number;
  /** By how much its wall clock was stepped. */
  readonly wallStepNs: bigint;
}

const TRUE_TIME: KernelTime = { ppm: 0, wallStepNs: 0n };
/** Where the payload lies in the VMM's file system, for the measurement log. */
const PAYLOAD_PATH = '/usr/lib/caretaker/caretaker.elf';

export class Kvm {
  readonly kernel: Kernel;
  readonly machine: KvmMachine;
  readonly services: KvmKernel;
  readonly offer: Offer;
  readonly directMap: boolean;
  readonly irqRoutes: VmSettings['irqRoutes'];
  readonly parkedPolicy: ParkedPolicy;
  readonly clockPolicy: ClockPolicy;
  readonly notifier: NotifierPolicy;
  readonly admissions: Admissions;
  /** The preserved record of a VM: outgoing in the old kernel, incoming in the next. */
  readonly vmRecords = new Map<KvmVm, bigint>();
  /** Why a VM of another kernel was last refused. */
  lastMismatch: Mismatch | null = null;
  readonly #vms = new Map<number, KvmVm>();
  /** The process in whose address space a VM was made: its mmu_notifier is registered there. */
  readonly #addressSpaces = new Map<KvmVm, number>();
  readonly #vcpus = new Map<number, { readonly vm: KvmVm; readonly vcpu: KvmVcpu }>();
  #nextVmId = 0;

  constructor(kernel: Kernel, machine: KvmMachine, config: KvmConfig) {
    this.kernel = kernel;
    this.machine = machine;
    this.offer = config.offer ?? WHOLE_OFFER;
    this.directMap = config.directMap ?? false;
    this.irqRoutes = config.irqRoutes;
    this.parkedPolicy = config.parkedPolicy ?? 'kill';
    this.clockPolicy = config.clockPolicy ?? 'carried';
    this.notifier = config.notifier ?? 'aware';
    this.services = servicesOf(kernel, machine, config.time ?? TRUE_TIME);
    this.admissions = new Admissions(config.integrity ?? OPEN_POLICY);
    const { ima } = this.admissions;
    kernel.debugfs.add('ima/ascii_runtime_measurements_sha256', () => ima.text);
    kernel.files.register('kvm-vm', {});
    kernel.files.register('kvm-vcpu', {});
    const vcpuHandler = new VcpuFileHandler(this);
    kernel.luo.registerFileHandler(new VmFileHandler(this));
    kernel.luo.registerFileHandler(vcpuHandler);
    kernel.luo.registerFlb(vcpuHandler, kernel.cpuPreserve.flb);
  }

  /** KVM_CREATE_VM; the value is a vmfd. Errnos: ENOMEM, EMFILE. */
  createVm(caller: Process, settings: Omit<VmSettings, 'irqRoutes' | 'directMap'>): Result<number> {
    const vm = KvmVm.create(this.services, this.machine, this.#nextVmId++, {
      ...settings,
      directMap: this.directMap,
      irqRoutes: this.irqRoutes,
    });
    if (!vm.ok) return vm;
    const inode = this.kernel.files.newInode();
    const fd = caller.openFile('kvm-vm', inode, `kvm-vm-${vm.value.id}`);
    if (!fd.ok) return fd;
    this.#vms.set(inode, vm.value);
    this.#addressSpaces.set(vm.value, caller.pid);
    return fd;
  }

  /** KVM_SET_USER_MEMORY_REGION: guest-physical memory from 0 on. Errnos: EBADF, EEXIST. */
  setMemory(caller: Process, vmFd: number, hpa: bigint, sizeBytes: number): Result<void> {
    const vm = this.#vmAt(caller, vmFd);
    if (vm === undefined) return refuse('EBADF');
    if (vm.mmu.slot !== null) return refuse('EEXIST');
    vm.mmu.slot = { hpa, sizeBytes };
    return DONE;
  }

  /** KVM_MEM_LOG_DIRTY_PAGES on all of the memory. Errnos: EBADF, ENOMEM. */
  logDirtyPages(caller: Process, vmFd: number): Result<void> {
    return this.#vmAt(caller, vmFd)?.mmu.startLogging() ?? refuse('EBADF');
  }

  /** KVM_GET_DIRTY_LOG without clearing it: guest-physical pages. Errnos: EBADF. */
  dirtyLog(caller: Process, vmFd: number): Result<readonly bigint[]> {
    const vm = this.#vmAt(caller, vmFd);
    return vm === undefined ? refuse('EBADF') : ok(vm.mmu.dirtyPages());
  }

  /** KVM_PRE_FAULT_MEMORY over all of the memory; the number of pages that were not mapped before. Errnos: EBADF, ENOMEM. */
  preFault(caller: Process, vmFd: number): Result<number> {
    const vm = this.#vmAt(caller, vmFd);
    if (vm === undefined) return refuse('EBADF');
    const mapped = vm.mmu.prefault();
    return mapped === null ? refuse('ENOMEM') : ok(mapped);
  }

  /** madvise(MADV_DONTNEED) on guest memory, as the mmu_notifier hears of it. Errnos: EBADF; ETIMEDOUT a vCPU does not stop. */
  invalidateRange(caller: Process, vmFd: number, gpa: bigint, sizeBytes: number): Result<void> {
    const vm = this.#vmAt(caller, vmFd);
    return vm === undefined ? refuse('EBADF') : invalidateRange(vm, gpa, sizeBytes, this.notifier);
  }

  /** A device's interrupt that no vCPU's core took: its irqfd posts it. */
  forwardInterrupt(hostVector: number): void {
    for (const vm of this.vms) {
      const target = forwardInterrupt(vm, hostVector);
      if (target !== undefined) kickIfRun(vm, target);
    }
  }

  /** A process is gone, and its address space with it. */
  addressSpaceGone(pid: number): void {
    for (const [vm, owner] of this.#addressSpaces) if (owner === pid) release(vm, this.notifier);
  }

  /** KVM_CREATE_VCPU; the value is a vcpufd. Errnos: EBADF, EEXIST, ENOMEM, EMFILE. */
  createVcpu(caller: Process, vmFd: number, id: number): Result<number> {
    const vm = this.#vmAt(caller, vmFd);
    if (vm === undefined) return refuse('EBADF');
    const vcpu = vm.createVcpu(id);
    if (!vcpu.ok) return vcpu;
    const inode = this.kernel.files.newInode();
    const fd = caller.openFile('kvm-vcpu', inode, `kvm-vcpu:${id}`);
    if (fd.ok) {
      this.#vcpus.set(inode, { vm, vcpu: vcpu.value });
      this.#publishTelemetry(`${caller.pid}-${vmFd}`, vcpu.value);
    }
    return fd;
  }

  /**
   * KVM_SET_CARETAKER on a vmfd or a vcpufd: the kernel has read the file behind the descriptor that the VMM gave it. On
   * the vcpufd of a vCPU that runs it is an update.
   * Errnos: EBADF, those of Admissions.admit(), KvmVm.setCaretaker() and updateCaretaker().
   */
  setCaretaker(
    caller: Process,
    fd: number,
    file: Uint8Array,
    path: string = PAYLOAD_PATH,
  ): Result<void> {
    const found = this.#vcpuAt(caller, fd);
    const vm = found?.vm ?? this.#vmAt(caller, fd);
    if (vm === undefined) return refuse('EBADF');
    const admission = this.admissions.admit(caller, path, file);
    if (!admission.ok) return vm.refuse(admission.errno, admission.why);
    const { content } = admission;
    if (found !== undefined && canBeUpdated(found.vcpu)) {
      return updateCaretaker(vm, found.vcpu, content, this.offer.features);
    }
    return vm.setCaretaker(content, found?.vcpu ?? null);
  }

  /** KVM_RUN: the vCPU's thread enters the guest, and stays in it until the machine says otherwise. Errnos: EBADF,
   * EOPNOTSUPP no Caretaker, EBUSY it runs or its core is isolated, EIO its guest cannot go on, ENOMEM. */
  run(caller: Process, fd: number): Result<void> {
    const found = this.#vcpuAt(caller, fd);
    if (found === undefined) return refuse('EBADF');
    const { vm, vcpu } = found;
    if (!vcpu.hasCaretaker) return refuse('EOPNOTSUPP');
    if (vcpu.state === 'dead') return refuse('EIO');
    if (vcpu.state === 'parked') {
      const resumed = resumeParked(vm, vcpu);
      return resumed.ok ? DONE : resumed;
    }
    if (vcpu.state !== 'created' && vcpu.state !== 'in-kvm') return refuse('EBUSY');
    const published = vm.publish();
    if (!published.ok) return published;
    startVcpu(vm, vcpu);
    return DONE;
  }

  /** The vCPU's thread moves to another core. Errnos: ENOENT no such vCPU; EBUSY it does not run attached; ETIMEDOUT. */
  migrate(id: number, pcpu: number): Result<void> {
    const found = this.findVcpu(id);
    if (found === undefined) return refuse('ENOENT');
    const { vm, vcpu } = found;
    if (vcpu.state !== 'running') return refuse('EBUSY');
    const stopped = this.machine.stopVcpu(id);
    if (!stopped.ok) return stopped;
    moveVcpu(vm, vcpu, pcpu);
    return DONE;
  }

  /**
   * Stop and serialize a vCPU. Attached, it comes to KVM at once and goes on; alone, it waits serialized until KVM_ATTACHED.
   * Errnos: ENOENT; ETIMEDOUT it did not stop.
   */
  stopAndResume(id: number): Result<void> {
    const found = this.findVcpu(id);
    if (found === undefined) return refuse('ENOENT');
    requestStop(this.machine, found.vcpu);
    if (found.vcpu.state === 'detached') {
      const isStopped = this.machine.waitFor(() => found.vcpu.payloadState === 'SERIALIZED');
      return isStopped ? DONE : refuse('ETIMEDOUT');
    }
    const stopped = this.machine.stopVcpu(id);
    if (!stopped.ok) return stopped;
    startVcpu(found.vm, found.vcpu);
    return DONE;
  }

  /** Stop and serialize, and stay in KVM until KVM_RUN. Errnos: ENOENT; EBUSY it runs alone; ETIMEDOUT it did not stop. */
  stop(id: number): Result<void> {
    const found = this.findVcpu(id);
    if (found === undefined) return refuse('ENOENT');
    if (found.vcpu.state === 'in-kvm') return DONE;
    if (found.vcpu.state !== 'running') return refuse('EBUSY');
    requestStop(this.machine, found.vcpu);
    return this.machine.stopVcpu(id);
  }

  /** KVM_GET_REGS and its kin. Errnos: EBADF; EBUSY the vCPU is not stopped in KVM. */
  getState(caller: Process, fd: number): Result<VcpuStateBytes> {
    const stopped = this.#stoppedAt(caller, fd);
    return stopped.ok ? ok(getState(...stopped.value)) : stopped;
  }

  /** KVM_SET_REGS and its kin. Errnos: EBADF; EBUSY the vCPU is not stopped in KVM; EINVAL not that many bytes. */
  setState(caller: Process, fd: number, state: VcpuStateBytes): Result<void> {
    const stopped = this.#stoppedAt(caller, fd);
    if (!stopped.ok) return stopped;
    if (state.length !== KVM_VCPU_STATE.sizeBytes) return refuse('EINVAL');
    setState(...stopped.value, state);
    return DONE;
  }

  #stoppedAt(
    caller: Process,
    fd: number,
  ): Result<[vcpu: KvmVcpu, cpu: KvmCpu, vmcs: NonNullable<KvmCpu['vmx']['current']>]> {
    const found = this.#vcpuAt(caller, fd);
    if (found === undefined) return refuse('EBADF');
    const cpu = this.machine.cpu(found.vcpu.pcpu);
    const { current } = cpu.vmx;
    if (found.vcpu.state !== 'in-kvm' || current?.regionPa !== found.vcpu.vmcsRegion)
      return refuse('EBUSY');
    return ok([found.vcpu, cpu, current]);
  }

  /** The time in which a retrieved vCPU must come to this kernel is over: it is given up. Errnos: ENOENT; EBUSY it came. */
  abandon(id: number): Result<void> {
    const found = this.findVcpu(id);
    if (found === undefined) return refuse('ENOENT');
    if (found.vcpu.state !== 'adopting') return refuse('EBUSY');
    found.vcpu.state = 'dead';
    this.kernel.config.events.onWarn('kvm', `vCPU ${id} does not come to this kernel: given up`);
    return DONE;
  }

  /** All VMs of this kernel. */
  get vms(): readonly KvmVm[] {
    return [...new Set([...this.#vms.values(), ...[...this.#vcpus.values()].map(({ vm }) => vm)])];
  }

  vmOf(file: OpenFile): KvmVm | undefined {
    return this.#vms.get(file.inode);
  }

  vcpuOf(file: OpenFile): { readonly vm: KvmVm; readonly vcpu: KvmVcpu } | undefined {
    return this.#vcpus.get(file.inode);
  }

  /** The vCPU with that id and its VM. */
  findVcpu(id: number): { readonly vm: KvmVm; readonly vcpu: KvmVcpu } | undefined {
    for (const found of this.#vcpus.values()) if (found.vcpu.id === id) return found;
    return undefined;
  }

  /** The retrieved VM with that record. */
  vmWithRecord(record: bigint): KvmVm | undefined {
    return [...this.vmRecords].find(([, hpa]) => hpa === record)?.[0];
  }

  /** A file for a VM that came from another kernel. */
  openVm(vm: KvmVm, holder: FileHolder): OpenFile {
    const inode = this.kernel.files.newInode();
    this.#vms.set(inode, vm);
    this.#nextVmId = Math.max(this.#nextVmId, vm.id + 1);
    return this.kernel.files.open('kvm-vm', inode, `kvm-vm-${vm.id}`, holder);
  }

  /** A file for a vCPU that came from another kernel. */
  openVcpu(vm: KvmVm, vcpu: KvmVcpu, holder: FileHolder): OpenFile {
    const inode = this.kernel.files.newInode();
    this.#vcpus.set(inode, { vm, vcpu });
    this.#publishTelemetry(`retrieved-${vm.id}`, vcpu);
    return this.kernel.files.open('kvm-vcpu', inode, `kvm-vcpu:${vcpu.id}`, holder);
  }

  #vmAt(caller: Process, fd: number): KvmVm | undefined {
    const file = caller.file(fd);
    return file === undefined ? undefined : this.vmOf(file);
  }

  #vcpuAt(caller: Process, fd: number): { readonly vm: KvmVm; readonly vcpu: KvmVcpu } | undefined {
    const file = caller.file(fd);
    return file === undefined ? undefined : this.vcpuOf(file);
  }

  /** debugfs: kvm/<pid>-<fd>/vcpuN/caretaker_telemetry. */
  #publishTelemetry(vmName: string, vcpu: KvmVcpu): void {
    this.kernel.debugfs.add(`kvm/${vmName}/vcpu${vcpu.id}/caretaker_telemetry`, () =>
      renderTelemetry(vcpu.telemetry),
    );
  }
}

/** CLOCK_REALTIME when the machine was switched on: 2026-01-01. */
const EPOCH_NS = 1_767_225_600_000_000_000n;

/** Every kernel's own monotonic clock begins at its boot. */
function servicesOf(kernel: Kernel, machine: KvmMachine, time: KernelTime): KvmKernel {
  const bootTsc = machine.now();
  const tscFrequencyHz = Math.round(machine.tscFrequencyHz * (1 + time.ppm / 1_000_000));
  const nsOf = (ticks: number): bigint =>
    (BigInt(Math.max(0, ticks)) * 1_000_000_000n) / BigInt(tscFrequencyHz);
  return {
    memory: kernel.memory,
    allocate: (wish) => {
      const run = kernel.allocator.allocZeroed(wish);
      return run.ok ? ok(run.value.hpa) : run;
    },
    free: (hpa) => kernel.allocator.free(hpa),
    routingHandler: kernel.image.address('kvm_vmexit'),
    text: { base: kernel.image.base, sizeBytes: KERNEL_ENTRY_BYTES },
    preserve: (hpa, pages) => kernel.khoOut.preservePages({ start: pfnOf(hpa), count: pages }),
    unpreserve: (hpa, pages) => {
      kernel.khoOut.unpreservePages({ start: pfnOf(hpa), count: pages });
    },
    restore: (hpa, pages, label) =>
      kernel.khoIn.restorePages({ start: pfnOf(hpa), count: pages }, label),
    monotonicNs: (tsc) => nsOf(tsc - bootTsc),
    realtimeNs: (tsc) => EPOCH_NS + time.wallStepNs + nsOf(tsc),
    tscFrequencyHz,
  };
}
