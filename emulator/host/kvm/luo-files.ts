/**
 * vmfd and vcpufd as LUO sees them: how a VM and its vCPUs are preserved, cancelled, retrieved and finished.
 *
 * Happy path:
 * 1. preserve vmfd: its record, its nested page tables and the pool they grow in are preserved.
 * 2. preserve vcpufd: the vCPU is stopped in KVM, its pages are preserved, its core goes offline and runs it alone.
 * 3. kexec.
 * 4. retrieve vmfd, then each vcpufd: pages restored, the core comes back online, routing pointers, KVM_ATTACHED, kick.
 * 5. finish: refused while a vCPU has not come to the new KVM yet; then the records are freed.
 *
 * Unhappy paths:
 * 1. vcpufd before vmfd: EINVAL on preserve, ENOENT on retrieve.
 * 2. No Caretaker: EOPNOTSUPP. The core cannot go offline: CpuHotplug's errno. Everything is taken back.
 * 3. The next kernel lacks what the VM runs on: vmfd is refused before anything is taken over. A VMM that finishes the
 *    session all the same ends the VM (terminate.ts).
 * 4. kexec with a sibling thread of a preserved core online: freeze is EBUSY. A thread that is offline goes with its core.
 * 5. unpreserve: KVM_ATTACHED in the old kernel, kick, the core leaves VMX, comes online and runs the vCPU as before.
 *
 * Source: the RFC, "Preservation of the vCPU"; facts on kvm_luo of the later series ("vmfd must precede vcpufd").
 * Invariant: what preserve() did and could not finish is undone before it returns an errno.
 */
import {
  KVM_SER_VERSION,
  KVM_VCPU_COMPATIBLE,
  KVM_VCPU_SER,
  KVM_VCPU_SER_MAGIC,
  KVM_VM_COMPATIBLE,
  KVM_VM_SER,
  KVM_VM_SER_MAGIC,
} from '../../../abi/kho-records.js';
import { CARETAKER_FEATURE } from '../../../abi/ccb.js';
import { CARETAKER_HLT_POLICY } from '../../../abi/config.js';
import { StructView } from '../../../abi/layout.js';
import { leafMappings } from '../../memory/page-tables.js';
import type { VmxCapabilities } from '../../vmx/capabilities.js';
import type { FileHolder, OpenFile } from '../files.js';
import type { Kernel } from '../kernel.js';
import type { FileOpArgs, LiveupdateFileHandler } from '../luo/handler.js';
import { DONE, ok, refuse, type Result } from '../result.js';
import type { Kvm } from './kvm.js';
import { EPT_POOL_PAGES, KvmMmu } from './mmu.js';
import { withVcpusStopped } from './mmu-notifier.js';
import { featuresOf, mismatchOf, writeNeeds } from './negotiation.js';
import { judgeParked, whyParked } from './parked.js';
import type { KvmKernel } from './ports.js';
import { disposeOf, stopUnadopted } from './terminate.js';
import { KvmVcpu } from './vcpu.js';
import { VcpuMemory } from './vcpu-memory.js';
import { isolate, leaveVmx, reattach, startVcpu } from './vcpu-run.js';
import { KvmVm } from './vm.js';

/** The handler of vmfds. */
export class VmFileHandler implements LiveupdateFileHandler {
  readonly compatible = KVM_VM_COMPATIBLE;
  readonly #kvm: Kvm;
  constructor(kvm: Kvm) {
    this.#kvm = kvm;
  }

  canPreserve(file: OpenFile): boolean {
    return file.kind === 'kvm-vm';
  }

  /** Errnos: ENOMEM; EBUSY a page is preserved already. */
  preserve({ file }: FileOpArgs & { readonly file: OpenFile }): Result<bigint> {
    const vm = this.#kvm.vmOf(file)!;
    const { kernel } = this.#kvm;
    const record = kernel.khoOut.allocPreserve(
      KVM_VM_SER.sizeBytes,
      `record of VM ${vm.id}`,
      'shared-metadata',
    );
    if (!record.ok) return record;
    const tables = preserveTables(vm);
    if (!tables.ok) {
      kernel.khoOut.unpreserveFree(record.value.hpa);
      return tables;
    }
    const view = new StructView(KVM_VM_SER, kernel.memory, record.value.hpa);
    const now = vm.machine.now();
    view.set('header.magic', KVM_VM_SER_MAGIC);
    view.set('header.version', KVM_SER_VERSION);
    view.set('header.size', KVM_VM_SER.sizeBytes);
    view.set('vm_id', vm.id);
    view.set('vcpu_count', vm.vcpus.length);
    view.set('tsc_frequency', vm.machine.tscFrequencyHz);
    view.set('tsc_at_preserve', now);
    view.set('monotonic_at_preserve', vm.kernel.monotonicNs(now));
    view.set('eptp', vm.mmu.eptp);
    view.set('ept_root', vm.mmu.root);
    view.set('ept_pool', vm.mmu.pool);
    view.set('ept_pool_pages', EPT_POOL_PAGES);
    view.set('dirty_logging', vm.mmu.logging === 'off' ? 0 : 1);
    view.set('dirty_bitmap', vm.mmu.bitmap);
    view.set('lifecycle', vm.settings.lifecycle === 'interpose' ? 0 : 1);
    view.set('cr3_policy', vm.settings.cr3 === 'isolated' ? 0 : 1);
    view.set('tsc_offset', vm.settings.tscOffset);
    view.set('clock_tsc', vm.clock.tsc);
    view.set('clock_ns', vm.clock.ns);
    view.set('clock_mul', vm.clock.mul);
    view.set('clock_shift', vm.clock.shift >>> 0);
    view.set('guest_memory', vm.mmu.slot?.hpa ?? 0n);
    view.set('guest_memory_size', vm.mmu.slot?.sizeBytes ?? 0);
    view.set('hlt_policy', CARETAKER_HLT_POLICY[vm.settings.hltPolicy]);
    view.set('shadow_stacks', vm.settings.shadowStacks ? 1 : 0);
    writeNeeds(vm, view, kernel.memory);
    this.#kvm.vmRecords.set(vm, record.value.hpa);
    return ok(record.value.hpa);
  }

  unpreserve({ file, serializedData }: FileOpArgs & { readonly file: OpenFile }): void {
    const vm = this.#kvm.vmOf(file)!;
    for (const { hpa, pages } of vm.mmu.runs()) vm.kernel.unpreserve(hpa, pages);
    if (vm.mmu.logging === 'flags') relog(vm);
    this.#kvm.kernel.khoOut.unpreserveFree(serializedData);
    this.#kvm.vmRecords.delete(vm);
  }

  /** Errnos: EINVAL a record that cannot be right; those of mismatchOf() and kho_restore_pages(). */
  retrieve({ serializedData }: FileOpArgs, holder: FileHolder): Result<OpenFile> {
    const { kernel } = this.#kvm;
    const view = new StructView(KVM_VM_SER, kernel.memory, serializedData);
    if (
      view.get('header.magic') !== KVM_VM_SER_MAGIC ||
      view.number('header.version') !== KVM_SER_VERSION
    ) {
      return refuse('EINVAL');
    }
    const mismatch = mismatchOf(view, this.#kvm.offer);
    if (mismatch !== null) {
      this.#kvm.lastMismatch = mismatch;
      return refuse(mismatch.errno);
    }
    const { services, machine } = this.#kvm;
    const mmu = tablesOf(view, services, machine.capabilities);
    for (const { hpa, pages, what } of mmu.runs()) {
      const restored = services.restore(hpa, pages, `VM ${view.number('vm_id')} ${what}`);
      if (!restored.ok) return restored;
    }
    if (view.number('dirty_logging') !== 0) mmu.logging = 'flags';
    const hlt = view.number('hlt_policy') === CARETAKER_HLT_POLICY.ROOT ? 'ROOT' : 'ACTIVITY';
    const vm = new KvmVm(
      this.#kvm.services,
      this.#kvm.machine,
      view.number('vm_id'),
      {
        lifecycle: view.number('lifecycle') === 0 ? 'interpose' : 'attach',
        cr3: view.number('cr3_policy') === 0 ? 'isolated' : 'shared-until-detach',
        tables: 'always',
        directMap: this.#kvm.directMap,
        hltPolicy: hlt,
        tscOffset: view.get('tsc_offset'),
        irqRoutes: this.#kvm.irqRoutes,
        shadowStacks: view.number('shadow_stacks') !== 0,
        postedInterrupts: (view.get('features') & CARETAKER_FEATURE.POSTED_INTERRUPTS) !== 0n,
      },
      mmu,
    );
    vm.markPublished();
    if (view.get('guest_memory') !== 0n) {
      const sizeBytes = view.number('guest_memory_size');
      mmu.slot = { hpa: view.get('guest_memory'), sizeBytes };
    }
    if (this.#kvm.clockPolicy === 'carried') {
      vm.clock = {
        tsc: view.get('clock_tsc'),
        ns: view.get('clock_ns'),
        mul: view.get('clock_mul'),
        shift: view.number('clock_shift') | 0,
      };
    }
    this.#kvm.vmRecords.set(vm, serializedData);
    return ok(this.#kvm.openVm(vm, holder));
  }

  /** All vCPUs are here: pages that the flags say were written since the old kernel are in the log, which goes on. */
  finish({ file, serializedData }: FileOpArgs): void {
    const vm = file === null ? undefined : this.#kvm.vmOf(file);
    if (vm?.mmu.logging === 'flags') relog(vm);
    if (file === null) this.#freeTables(serializedData);
    this.#kvm.kernel.khoIn.restoreFree(serializedData);
  }

  /** Nobody has retrieved the VM. Its vCPUs, which came after it into the session, have ended before. */
  #freeTables(record: bigint): void {
    const { kernel, services, machine } = this.#kvm;
    const view = new StructView(KVM_VM_SER, kernel.memory, record);
    for (const { hpa, pages, what } of tablesOf(view, services, machine.capabilities).runs())
      if (services.restore(hpa, pages, what).ok) services.free(hpa);
  }
}

/** The nested page tables that a record names. */
function tablesOf(view: StructView, kernel: KvmKernel, capabilities: VmxCapabilities): KvmMmu {
  return new KvmMmu(kernel, capabilities, view.get('ept_root'), {
    pool: view.get('ept_pool'),
    bitmap: view.get('dirty_bitmap'),
  });
}

/** The flags are read and write access is taken away with no vCPU in the guest, or a write would be in neither. */
function relog(vm: KvmVm): void {
  withVcpusStopped(vm, () => {
    vm.mmu.collectFlags();
    vm.mmu.startLogging();
  });
}

/**
 * No update of the tables is left to be made in the gap: dirty pages are told by hardware's flags from here on, and tables
 * that vCPUs which still run add lie in pages that are preserved beforehand. Errnos: ETIMEDOUT; EBUSY, ENOMEM of KHO.
 */
function preserveTables(vm: KvmVm): Result<void> {
  const { mmu } = vm;
  if (mmu.logging === 'write-protect') {
    const switched = withVcpusStopped(vm, () => mmu.logByFlags());
    if (!switched.ok) return switched;
  }
  const runs = mmu.runs();
  for (const [index, { hpa, pages }] of runs.entries()) {
    const result = vm.kernel.preserve(hpa, pages);
    if (result.ok) continue;
    for (const done of runs.slice(0, index)) vm.kernel.unpreserve(done.hpa, done.pages);
    return result;
  }
  return DONE;
}

/** The handler of vcpufds; the FLB with the preserved CPUs depends on it. */
export class VcpuFileHandler implements LiveupdateFileHandler {
  readonly compatible = KVM_VCPU_COMPATIBLE;
  readonly #kvm: Kvm;
  constructor(kvm: Kvm) {
    this.#kvm = kvm;
  }

  canPreserve(file: OpenFile): boolean {
    return file.kind === 'kvm-vcpu';
  }

  /** Errnos: EINVAL its VM is not preserved; EOPNOTSUPP no Caretaker; ENOMEM; ETIMEDOUT it did not stop; hotplug's. */
  preserve({ file }: FileOpArgs & { readonly file: OpenFile }): Result<bigint> {
    const { vm, vcpu } = this.#kvm.vcpuOf(file)!;
    const vmRecord = this.#kvm.vmRecords.get(vm);
    if (vmRecord === undefined) return refuse('EINVAL');
    if (!vcpu.hasCaretaker) return refuse('EOPNOTSUPP');
    const { kernel } = this.#kvm;
    const record = kernel.khoOut.allocPreserve(
      KVM_VCPU_SER.sizeBytes,
      `record of vCPU ${vcpu.id}`,
      'shared-metadata',
    );
    if (!record.ok) return record;
    const detached = this.#detach(kernel, vm, vcpu);
    if (!detached.ok) {
      kernel.khoOut.unpreserveFree(record.value.hpa);
      return detached;
    }
    this.#write(vm, vcpu, record.value.hpa, vmRecord);
    return ok(record.value.hpa);
  }

  unpreserve({ file, serializedData }: FileOpArgs & { readonly file: OpenFile }): void {
    const { vm, vcpu } = this.#kvm.vcpuOf(file)!;
    const { kernel } = this.#kvm;
    // First, because coming back replaces the VMCS region.
    vcpu.memory.unpreserve(vm.kernel);
    reattach(vm, vcpu);
    vm.machine.vcpuAdopted(vcpu.id);
    if (vm.machine.stopVcpu(vcpu.id).ok) {
      leaveVmx(vm, vcpu);
      kernel.hotplug.requestExit(vcpu.pcpu);
      kernel.hotplug.reportDead(vcpu.pcpu);
      kernel.cpuPreserve.unpreserve(vcpu.pcpu);
      startVcpu(vm, vcpu);
    }
    kernel.khoOut.unpreserveFree(serializedData);
  }

  /** Errnos: EINVAL a record that cannot be right; ENOENT its VM is not retrieved; EOPNOTSUPP features; KHO's. */
  retrieve({ serializedData }: FileOpArgs, holder: FileHolder): Result<OpenFile> {
    const { kernel, services } = this.#kvm;
    const view = new StructView(KVM_VCPU_SER, kernel.memory, serializedData);
    if (
      view.get('header.magic') !== KVM_VCPU_SER_MAGIC ||
      view.number('header.version') !== KVM_SER_VERSION
    ) {
      return refuse('EINVAL');
    }
    const vm = this.#kvm.vmWithRecord(view.get('vm_record'));
    if (vm === undefined) return refuse('ENOENT');
    if ((view.get('features') & ~this.#kvm.offer.features) !== 0n) return refuse('EOPNOTSUPP');
    const memory = VcpuMemory.restore(services, view);
    if (!memory.ok) return memory;
    const cpu = kernel.hotplug.cpuOfApicId(view.number('pcpu_apic_id'));
    if (cpu === undefined) return refuse('ENODEV');
    const vcpu = new KvmVcpu(kernel.memory, view.number('vcpu_id'), cpu, memory.value);
    vcpu.ccb = view.get('ccb');
    vcpu.isolatedCr3 = view.get('cr3');
    vcpu.ranges = leafMappings(kernel.memory, vcpu.isolatedCr3)
      .filter(
        (m) =>
          m.linear >= view.get('instance_base') &&
          m.linear < view.get('instance_base') + view.get('instance_size'),
      )
      .map((m) => ({
        base: m.linear,
        sizeBytes: m.sizeBytes,
        writable: m.writable,
        executable: m.executable,
      }));
    vcpu.pvTimeInfo = view.get('pv_time_info');
    vcpu.pvStealTime = view.get('pv_steal_time');
    const added = vm.adoptVcpu(vcpu);
    if (!added.ok) return added;
    kernel.hotplug.adopt(view.number('pcpu_apic_id'));
    if (vcpu.payloadState === 'PARKED') this.#retrieveParked(vm, vcpu);
    else reattach(vm, vcpu);
    const file = this.#kvm.openVcpu(vm, vcpu, holder);
    this.#kvm.machine.vcpuAdopted(vcpu.id);
    return ok(file);
  }

  /** The payload has given up: what becomes of the vCPU is policy, and the others know nothing of it. */
  #retrieveParked(vm: KvmVm, vcpu: KvmVcpu): void {
    const dead = judgeParked(vm, vcpu, this.#kvm.parkedPolicy);
    const verdict = dead === null ? 'it waits for another instance' : `dead: ${dead}`;
    this.#kvm.kernel.config.events.onWarn(
      'kvm',
      `vCPU ${vcpu.id} is parked by ${whyParked(vcpu.telemetry)}; ${verdict}`,
    );
  }

  /** The core leaves this kernel whole. Errnos: EBUSY a sibling thread is online. */
  freeze({ file, serializedData }: FileOpArgs & { readonly file: OpenFile }): Result<bigint> {
    const { vcpu } = this.#kvm.vcpuOf(file)!;
    const { kernel } = this.#kvm;
    const whole = kernel.cpuPreserve.preserveSiblings(vcpu.pcpu);
    if (whole.ok) return ok(serializedData);
    kernel.config.events.onWarn(
      'kvm',
      `a sibling thread of pCPU ${vcpu.pcpu}, which runs vCPU ${vcpu.id} alone, is online`,
    );
    return whole;
  }

  unfreeze({ file }: FileOpArgs & { readonly file: OpenFile }): void {
    this.#releaseSiblings(this.#kvm.vcpuOf(file)!.vcpu.pcpu);
  }

  /** Sibling threads that run no vCPU, by number. */
  #releaseSiblings(pcpu: number): readonly number[] {
    const runs = new Set(this.#kvm.vms.flatMap(({ vcpus }) => vcpus.map((one) => one.pcpu)));
    return this.#kvm.kernel.cpuPreserve.releaseSiblings(pcpu, (one) => runs.has(one));
  }

  /** A vCPU that was retrieved has come to this kernel; one that was not has stopped. */
  canFinish({ file, serializedData }: FileOpArgs): boolean {
    if (file === null) return stopUnadopted(this.#kvm, serializedData).ok;
    return this.#kvm.vcpuOf(file)?.vcpu.state !== 'adopting';
  }

  finish({ file, serializedData }: FileOpArgs): void {
    const { kernel } = this.#kvm;
    const disposed = file === null ? disposeOf(this.#kvm, serializedData) : DONE;
    if (!disposed.ok) kernel.config.events.onWarn('kvm', `a vCPU is lost: -${disposed.errno}`);
    const pcpu = file === null ? undefined : this.#kvm.vcpuOf(file)?.vcpu.pcpu;
    if (pcpu !== undefined)
      for (const sibling of this.#releaseSiblings(pcpu)) kernel.hotplug.online(sibling);
    kernel.khoIn.restoreFree(serializedData);
  }

  /** Stops the vCPU, preserves its pages, takes its core out of the kernel and lets it run alone. */
  #detach(kernel: Kernel, vm: KvmVm, vcpu: KvmVcpu): Result<void> {
    const stopped = vm.machine.stopVcpu(vcpu.id);
    if (!stopped.ok) return stopped;
    const preserved = vcpu.memory.preserve(vm.kernel);
    if (!preserved.ok) {
      startVcpu(vm, vcpu);
      return preserved;
    }
    leaveVmx(vm, vcpu);
    const offline = kernel.cpuPreserve.preserve(vcpu.pcpu);
    if (!offline.ok) {
      vcpu.memory.unpreserve(vm.kernel);
      startVcpu(vm, vcpu);
      return offline;
    }
    isolate(vm, vcpu);
    kernel.hotplug.startWorkload(vcpu.pcpu);
    return DONE;
  }

  #write(vm: KvmVm, vcpu: KvmVcpu, hpa: bigint, vmRecord: bigint): void {
    const view = vcpu.memory.write(this.#kvm.kernel.memory, hpa);
    view.set('vcpu_id', vcpu.id);
    view.set('apic_id', vcpu.apicId);
    view.set('pcpu', vcpu.pcpu);
    view.set('pcpu_apic_id', vm.machine.cpu(vcpu.pcpu).apicId);
    view.set('ccb', vcpu.ccb);
    view.set('entry_vmexit', vcpu.ccbView.get('entry_vmexit'));
    view.set('entry_run', vcpu.ccbView.get('entry_run'));
    view.set('cr3', vcpu.isolatedCr3);
    view.set('features', featuresOf(vcpu));
    view.set('epoch', vcpu.ccbView.get('epoch'));
    view.set('payload_version', vcpu.ccbView.number('header.version'));
    view.set('vm_record', vmRecord);
    view.set('pv_time_info', vcpu.pvTimeInfo);
    view.set('pv_steal_time', vcpu.pvStealTime);
  }
}
