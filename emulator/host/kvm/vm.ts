/**
 * One VM in one kernel's KVM: its vCPUs, what they share, and the page tables that map their Caretakers.
 *
 * Source: Linux virt/kvm/kvm_main.c; the RFC, "API Design & Caretaker Installation".
 * Invariant: a Caretaker is set on the VM for all its vCPUs, or on each vCPU, never both.
 */
import { HarnessBug } from '../../../abi/errors.js';
import { CARETAKER_FEATURE } from '../../../abi/ccb.js';
import type { ErrnoName } from '../../../abi/luo.js';
import { s64, u64 } from '../../../abi/uint.js';
import { LoaderError } from '../../../loader/errors.js';
import { parseElf } from '../../../loader/elf.js';
import type { CaretakerImage } from '../../../loader/image.js';
import { identityRanges, place, spanPages } from '../../../loader/place.js';
import { writeImage } from '../../../loader/write.js';
import { PAGE_SIZE } from '../../memory/physical-memory.js';
import { applyDescription, type VmcsDescription } from '../../vmx/description.js';
import { DONE, ok, refuse, type Result } from '../result.js';
import { CCB_RULE } from './ccb-rule.js';
import {
  buildIsolatedTables,
  buildKernelTables,
  KERNEL_STACK_BYTES,
  KERNEL_TABLE_PAGES,
} from './page-tables.js';
import { KvmMmu } from './mmu.js';
import type { KvmCpu, KvmKernel, KvmMachine } from './ports.js';
import { writeSharedConfig, type SharedConfigSettings } from './shared-config.js';
import { guestRegistersOf } from './parked.js';
import { scaleOf, type ClockBase } from './pv-clock.js';
import { KvmVcpu, type Routing } from './vcpu.js';
import { STACK_BYTES, VcpuMemory } from './vcpu-memory.js';
import { caretakerHostState, guestVmcs, withoutTables } from './vmcs-setup.js';
import { vmclear, vmptrld, vmxon, writeRevision } from './vmx-ops.js';

/** When a Caretaker is on HOST_RIP: always, or only from preserve to adoption. */
export type Lifecycle = 'interpose' | 'attach';
/** Which page tables a VM exit loads while attached. */
export type Cr3Policy = 'isolated' | 'shared-until-detach';

/**
 * When HOST_IDTR_BASE, HOST_GDTR_BASE and what goes with them are the payload's: at every VM exit (CONTRACT), or only once
 * the gap begins, as the RFC's "Stray Hardware Interrupts" has it.
 */
export type TablesPolicy = 'always' | 'in-gap';

/** How a VM is set up. */
export interface VmSettings {
  readonly lifecycle: Lifecycle;
  readonly cr3: Cr3Policy;
  readonly tables: TablesPolicy;
  /** Whether the kernel's tables map all of memory. */
  readonly directMap: boolean;
  readonly hltPolicy: SharedConfigSettings['hltPolicy'];
  readonly tscOffset: bigint;
  readonly irqRoutes: SharedConfigSettings['irqRoutes'];
  /** Whether payloads get shadow stacks. */
  readonly shadowStacks: boolean;
  /** Whether the processor delivers virtual interrupts, and others post them, if the payloads know of it. */
  readonly postedInterrupts: boolean;
}

/** A payload that was refused: the errno of the ioctl, and the loader's reason. */
export interface Refusal {
  readonly errno: ErrnoName;
  readonly error?: LoaderError;
  readonly message: string;
}

/** The vector of a host kick: look at posted[] and at request. */
export const NOTIFICATION_VECTOR = 0xf2;
/** The vector that tells a processor of posted interrupts: another one, because a kick must be a VM exit. */
export const POSTED_INTR_VECTOR = 0xf1;

export class KvmVm {
  readonly #vmxonRegions = new Map<number, bigint>();
  readonly kernel: KvmKernel;
  readonly machine: KvmMachine;
  readonly settings: VmSettings;
  readonly id: number;
  readonly vcpus: KvmVcpu[] = [];
  /** Nested page tables. */
  readonly mmu: KvmMmu;
  /** kvmclock of all vCPUs. */
  clock: ClockBase;
  /** Root of the kernel's tables for this VM. */
  kernelCr3 = 0n;
  #tablePool = 0n;
  #scope: 'none' | 'vm' | 'vcpu' = 'none';
  #vmImage: CaretakerImage | null = null;
  #isPublished = false;
  #postsInterrupts = false;
  /** Why KVM_SET_CARETAKER was last refused. */
  lastRefusal: Refusal | null = null;

  constructor(
    kernel: KvmKernel,
    machine: KvmMachine,
    id: number,
    settings: VmSettings,
    mmu: KvmMmu,
  ) {
    this.kernel = kernel;
    this.machine = machine;
    this.id = id;
    this.settings = settings;
    this.mmu = mmu;
    this.clock = this.freshClock();
  }

  /** A clock that begins now, by this kernel's own calibration. */
  freshClock(): ClockBase {
    const { kernel, machine } = this;
    return { tsc: this.guestTsc(machine.now()), ns: 0n, ...scaleOf(kernel.tscFrequencyHz) };
  }

  guestTsc(hostTsc: number): bigint {
    return u64(BigInt(hostTsc) + this.settings.tscOffset);
  }

  /** Where guest memory of that many bytes lies, undefined where there is none. */
  hpaOf(gpa: bigint, sizeBytes: number): bigint | undefined {
    const { slot } = this.mmu;
    if (slot === null || gpa + BigInt(sizeBytes) > BigInt(slot.sizeBytes)) return;
    return slot.hpa + gpa;
  }

  /** KVM_CREATE_VM. Errnos: ENOMEM. */
  static create(
    kernel: KvmKernel,
    machine: KvmMachine,
    id: number,
    settings: VmSettings,
  ): Result<KvmVm> {
    const root = kernel.allocate({ pages: 1, label: `VM ${id} EPT root`, owner: 'vmx' });
    if (!root.ok) return root;
    const mmu = new KvmMmu(kernel, machine.capabilities, root.value);
    return ok(new KvmVm(kernel, machine, id, settings, mmu));
  }

  /** KVM_CREATE_VCPU: vCPU n runs on the n-th core that is not the host's own. Errnos: EEXIST, ENOMEM, those of setCaretaker() when the VM has one. */
  createVcpu(id: number): Result<KvmVcpu> {
    if (this.vcpus.some((vcpu) => vcpu.id === id)) return refuse('EEXIST');
    const memory = VcpuMemory.allocate(this.kernel, id, this.settings);
    if (!memory.ok) return memory;
    const stack = this.kernel.allocate({
      pages: KERNEL_STACK_BYTES / PAGE_SIZE,
      label: `KVM stack of vCPU ${id}`,
    });
    if (!stack.ok) {
      memory.value.free(this.kernel);
      return stack;
    }
    const vcpu = new KvmVcpu(this.kernel.memory, id, this.machine.firstVcpuCpu + id, memory.value);
    vcpu.kernelStack = stack.value;
    this.vcpus.push(vcpu);
    this.#isPublished = false;
    const installed = this.#vmImage === null ? DONE : this.install(vcpu, this.#vmImage);
    if (!installed.ok) {
      this.destroyVcpu(vcpu);
      return installed;
    }
    return ok(vcpu);
  }

  /** Gives back everything behind a vCPU. */
  destroyVcpu(vcpu: KvmVcpu): void {
    this.vcpus.splice(this.vcpus.indexOf(vcpu), 1);
    vcpu.memory.free(this.kernel);
    this.kernel.free(vcpu.kernelStack);
    vcpu.state = 'dead';
  }

  /**
   * KVM_SET_CARETAKER on the VM or on one vCPU; the file's bytes were read by the kernel.
   *
   * Errnos: ENOEXEC the loader refused the file; EEXIST there is one already; EINVAL set on the other kind of fd
   * before; EBUSY a vCPU has run; ENOMEM; EIO the payload's init failed. `lastRefusal` says more.
   * On the vcpufd of a parked vCPU it puts a fresh instance in the place of the one that faulted.
   */
  setCaretaker(file: Uint8Array, vcpu: KvmVcpu | null): Result<void> {
    if (vcpu?.state === 'parked') return this.#reinstall(file, vcpu);
    const scope = vcpu === null ? 'vm' : 'vcpu';
    if (this.#scope !== 'none' && this.#scope !== scope) {
      return this.refuse(
        'EINVAL',
        `a Caretaker is set on the ${this.#scope}fd already; the two do not mix`,
      );
    }
    const targets = vcpu === null ? this.vcpus : [vcpu];
    if ((scope === 'vm' && this.#vmImage !== null) || targets.some((one) => one.hasCaretaker)) {
      return this.refuse('EEXIST', 'a Caretaker is installed already');
    }
    if (targets.some((one) => one.state !== 'created'))
      return this.refuse('EBUSY', 'a vCPU has run');
    const image = this.parse(file);
    if (image === null) return refuse('ENOEXEC');
    for (const target of targets) {
      const installed = this.install(target, image);
      if (!installed.ok) return installed;
    }
    this.#scope = scope;
    if (scope === 'vm') this.#vmImage = image;
    return DONE;
  }

  /** Builds tables and configurations for all vCPUs as they are now; done before the first of them runs. */
  publish(): Result<void> {
    if (this.#isPublished) return DONE;
    const built = this.buildKernelTables();
    if (!built.ok) return built;
    const toppedUp = this.mmu.topUp();
    if (!toppedUp.ok) return toppedUp;
    this.#postsInterrupts = this.settings.postedInterrupts && this.#allTakePosted();
    for (const vcpu of this.vcpus) {
      if (!vcpu.hasCaretaker) continue;
      this.#writeConfig(vcpu);
      this.buildIsolatedTables(vcpu);
      this.#programVmcs(vcpu);
    }
    this.#isPublished = true;
    this.machine.tablesChanged();
    return DONE;
  }

  /** Whether others post interrupts for its vCPUs; where a payload cannot have that, IRQ routing is what is left. */
  get postsInterrupts(): boolean {
    return this.#postsInterrupts;
  }

  #allTakePosted(): boolean {
    const { POSTED_INTERRUPTS } = CARETAKER_FEATURE;
    return this.vcpus.every(
      (vcpu) => vcpu.hasCaretaker && (vcpu.ccbView.get('features') & POSTED_INTERRUPTS) !== 0n,
    );
  }

  /** The payload's own page tables, built anew over those it had: the vCPU is not running. */
  buildIsolatedTables(vcpu: KvmVcpu): void {
    vcpu.isolatedCr3 = buildIsolatedTables(
      this.kernel,
      vcpu,
      vcpu.memory,
      this.vcpus.map((peer) => peer.memory),
    );
  }

  /** Tells every payload again where its peers are. */
  writeConfigs(): void {
    for (const vcpu of this.vcpus) if (vcpu.hasCaretaker) this.#writeConfig(vcpu);
  }

  /** Configuration and tables came from another kernel and stay as they are. */
  markPublished(): void {
    this.#isPublished = true;
    this.#postsInterrupts = this.settings.postedInterrupts;
  }

  /** A vCPU that came from another kernel joins this VM. Errnos: EEXIST, ENOMEM. */
  adoptVcpu(vcpu: KvmVcpu): Result<void> {
    if (this.vcpus.some((other) => other.id === vcpu.id)) return refuse('EEXIST');
    const stack = this.kernel.allocate({
      pages: KERNEL_STACK_BYTES / PAGE_SIZE,
      label: `KVM stack of vCPU ${vcpu.id}`,
    });
    if (!stack.ok) return stack;
    vcpu.kernelStack = stack.value;
    this.vcpus.push(vcpu);
    return this.buildKernelTables();
  }

  /** The kernel's own tables with every instance of this VM in them. Errnos: ENOMEM. */
  buildKernelTables(): Result<void> {
    if (this.#tablePool === 0n) {
      const pool = this.kernel.allocate({
        pages: KERNEL_TABLE_PAGES,
        label: `kernel tables for VM ${this.id}`,
      });
      if (!pool.ok) return pool;
      this.#tablePool = pool.value;
    }
    this.kernelCr3 = buildKernelTables(
      this.kernel,
      this.#tablePool,
      this.vcpus.filter((vcpu) => vcpu.hasCaretaker),
      this.settings.directMap,
    );
    this.machine.tablesChanged();
    return DONE;
  }

  /** Where a vCPU's payload jumps to in this kernel. */
  routingOf(vcpu: KvmVcpu): Routing {
    const stackTop = vcpu.kernelStack + BigInt(KERNEL_STACK_BYTES);
    return {
      handler: this.kernel.routingHandler,
      stack: stackTop - 64n,
      cr3: this.kernelCr3,
      gsBase: vcpu.kernelStack,
      argument: BigInt(0x1000 + vcpu.id),
    };
  }

  /** HOST_CR3 while attached. */
  attachedCr3(vcpu: KvmVcpu): bigint {
    return this.settings.cr3 === 'isolated' ? vcpu.isolatedCr3 : this.kernelCr3;
  }

  /** The host-state area while attached with a Caretaker interposed. */
  attachedHostState(vcpu: KvmVcpu): VmcsDescription {
    const cr3 = this.attachedCr3(vcpu);
    const state = caretakerHostState(this.kernel.memory, vcpu.ccb, vcpu.memory, cr3);
    return this.settings.tables === 'always' ? state : withoutTables(state);
  }

  /** The guest and control fields of a fresh VMCS, with KVM's own host-state area. */
  describeVmcs(vcpu: KvmVcpu) {
    return guestVmcs(this.machine.capabilities, vcpu.memory, {
      vpid: vcpu.id + 1,
      eptp: this.mmu.eptp,
      posted: this.#postsInterrupts
        ? { descriptor: vcpu.descriptorAddress, vector: POSTED_INTR_VECTOR }
        : null,
      tscOffset: this.settings.tscOffset,
      hostCr3: this.kernelCr3,
      hostRip: this.kernel.routingHandler,
      hostStack: this.routingOf(vcpu).stack,
    });
  }

  /** hardware_enable(): VMXON on a core that is not in VMX operation, with a region of this kernel's. */
  enableCore(id: number): KvmCpu {
    const cpu = this.machine.cpu(id);
    if (cpu.vmx.mode !== 'off') return cpu;
    vmxon(cpu, this.#vmxonRegion(id));
    return cpu;
  }

  /** The per-CPU vmxarea: kept while VMX is off, so that a core that comes back finds it. */
  #vmxonRegion(id: number): bigint {
    const known = this.#vmxonRegions.get(id);
    if (known !== undefined) return known;
    const region = this.kernel.allocate({ pages: 1, label: `VMXON region of CPU ${id}` });
    if (!region.ok) throw new HarnessBug('no page for a VMXON region');
    writeRevision(this.kernel.memory, region.value, this.machine.capabilities);
    this.#vmxonRegions.set(id, region.value);
    return region.value;
  }

  #programVmcs(vcpu: KvmVcpu): void {
    const cpu = this.enableCore(vcpu.pcpu);
    writeRevision(this.kernel.memory, vcpu.vmcsRegion, this.machine.capabilities);
    vmclear(cpu, vcpu.vmcsRegion);
    const vmcs = vmptrld(cpu, vcpu.vmcsRegion);
    applyDescription(vmcs, this.describeVmcs(vcpu));
    if (this.settings.lifecycle === 'interpose') {
      applyDescription(vmcs, this.attachedHostState(vcpu));
    }
    vmclear(cpu, vcpu.vmcsRegion);
  }

  /** The guest's registers are the only thing that the new instance takes from the old. */
  #reinstall(file: Uint8Array, vcpu: KvmVcpu): Result<void> {
    const image = this.parse(file);
    if (image === null) return refuse('ENOEXEC');
    const registers = guestRegistersOf(vcpu);
    const old = vcpu.memory.at('instance');
    const installed = this.install(vcpu, image);
    if (!installed.ok) return installed;
    registers.forEach((value, index) => vcpu.ccbView.set(`registers[${index}]`, value));
    this.kernel.free(old);
    this.buildIsolatedTables(vcpu);
    this.machine.tablesChanged();
    return DONE;
  }

  /** Copies the image for one vCPU, fills KVM's fields, runs init. Errnos: ENOMEM, ENOEXEC, EIO. */
  install(vcpu: KvmVcpu, image: CaretakerImage): Result<void> {
    const pages = spanPages(image);
    const at = image.pages.start - BigInt(PAGE_SIZE);
    const wish = image.type === 'ET_EXEC' ? { pages, at } : { pages };
    const base = vcpu.memory.allocateInstance(this.kernel, vcpu.id, wish);
    if (!base.ok) return base;
    try {
      const loaded = place(image, base.value + BigInt(PAGE_SIZE));
      writeImage(loaded, this.kernel.memory);
      vcpu.loaded = loaded;
      vcpu.ccb = loaded.ccb.address;
      vcpu.ranges = identityRanges(loaded);
    } catch (error) {
      if (!(error instanceof LoaderError)) throw error;
      return this.refuse('ENOEXEC', error.message, error);
    }
    this.machine.codePlaced(vcpu.memory.at('instance'), spanPages(image) * PAGE_SIZE);
    vcpu.initialise(vcpu.memory.at('vmxon'));
    this.#writeConfig(vcpu);
    return this.#runInit(vcpu);
  }

  #runInit(vcpu: KvmVcpu): Result<void> {
    const built = this.buildKernelTables();
    if (!built.ok) return built;
    const entry = vcpu.ccbView.get('entry_init');
    const top = vcpu.memory.at('stack') + BigInt(STACK_BYTES);
    const result = this.machine.cpu(vcpu.pcpu).call(entry, vcpu.ccb, top, this.kernelCr3);
    if (result.kind === 'failed')
      return this.refuse('EIO', `init of vCPU ${vcpu.id}: ${result.why}`);
    if (result.rax !== 0n) {
      return this.refuse('EIO', `init of vCPU ${vcpu.id} returned ${s64(result.rax)}`);
    }
    return DONE;
  }

  #writeConfig(vcpu: KvmVcpu): void {
    writeSharedConfig(this.kernel.memory, vcpu.memory.at('config'), {
      apicId: vcpu.apicId,
      peers: this.vcpus.map((peer) => ({
        vcpuId: peer.id,
        apicId: peer.apicId,
        physicalApicId: this.machine.cpu(peer.pcpu).apicId,
        softStateAddress: peer.memory.at('softState'),
      })),
      tscFrequencyHz: this.machine.tscFrequencyHz,
      tscOffset: this.settings.tscOffset,
      preemptionTimerShift: this.machine.capabilities.preemptionTimerShift,
      notificationVector: NOTIFICATION_VECTOR,
      hltPolicy: this.settings.hltPolicy,
      irqRoutes: this.settings.irqRoutes,
      virtualApic: this.#postsInterrupts ? vcpu.memory.at('virtualApic') : null,
    });
  }

  /** The image of a file; null when the loader refuses it, which lastRefusal tells. */
  parse(file: Uint8Array): CaretakerImage | null {
    try {
      return parseElf(file, CCB_RULE);
    } catch (error) {
      if (!(error instanceof LoaderError)) throw error;
      this.refuse('ENOEXEC', error.message, error);
      return null;
    }
  }

  /** Refuses KVM_SET_CARETAKER and keeps the reason. */
  refuse(errno: ErrnoName, message: string, error?: LoaderError): Result<never> {
    this.lastRefusal = { errno, message, ...(error === undefined ? {} : { error }) };
    return refuse(errno);
  }
}
