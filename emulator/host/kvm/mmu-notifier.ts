/**
 * Changes of a VM's nested page tables that its vCPUs must not run through: write access and pages that are taken away.
 *
 * Happy path: every vCPU leaves the guest, one that runs alone after a stop that it serves like any other; the tables are
 * changed; INVEPT on each core; each vCPU goes on where it was.
 * Unhappy path: a vCPU does not stop (ETIMEDOUT): nothing is changed, and those that did stop go on.
 *
 * Source: Linux virt/kvm/kvm_main.c: kvm_mmu_notifier_invalidate_range_start(), kvm_mmu_notifier_release(),
 * kvm_flush_remote_tlbs(); the RFC, "Nested Page Table Updates".
 * Invariant: no core has a cached translation that the tables no longer have.
 */
import { DONE, refuse, type Result } from '../result.js';
import type { KvmVcpu } from './vcpu.js';
import { isolate, leaveVmx, requestStop, startVcpu } from './vcpu-run.js';
import type { KvmVm } from './vm.js';
import { invept } from './vmx-ops.js';

/**
 * What a KVM knows of vCPUs that run without it: `aware` stops them before tables change and keeps the tables when the
 * VMM exits; `unaware` is KVM as it is without live update, which finds nobody in guest mode.
 */
export type NotifierPolicy = 'aware' | 'unaware';

/** Changes tables with no vCPU in the guest. Errnos: ETIMEDOUT. */
export function withVcpusStopped(vm: KvmVm, change: () => void): Result<void> {
  const stopped: { readonly vcpu: KvmVcpu; readonly wasAlone: boolean }[] = [];
  const goOn = (): void => {
    for (const { vcpu, wasAlone } of stopped) {
      if (wasAlone) {
        leaveVmx(vm, vcpu);
        isolate(vm, vcpu);
      } else startVcpu(vm, vcpu);
    }
  };
  for (const vcpu of vm.vcpus) {
    const wasAlone = vcpu.state === 'detached';
    if (!wasAlone && vcpu.state !== 'running') continue;
    const result = wasAlone ? recall(vm, vcpu) : vm.machine.stopVcpu(vcpu.id);
    if (!result.ok) {
      goOn();
      return result;
    }
    stopped.push({ vcpu, wasAlone });
  }
  change();
  for (const { vcpu } of stopped) invept(vm.machine.cpu(vcpu.pcpu), vm.mmu.eptp);
  goOn();
  return DONE;
}

/** A vCPU that runs alone comes back to the KVM that detached it, and stays there. */
function recall(vm: KvmVm, vcpu: KvmVcpu): Result<void> {
  requestStop(vm.machine, vcpu);
  if (!vm.machine.waitFor(() => vcpu.payloadState === 'SERIALIZED')) return refuse('ETIMEDOUT');
  vcpu.attach(vm.routingOf(vcpu));
  vcpu.state = 'running';
  return vm.machine.stopVcpu(vcpu.id);
}

/** kvm_mmu_notifier_invalidate_range_start(): the host takes pages of the guest's memory back. Errnos: ETIMEDOUT. */
export function invalidateRange(
  vm: KvmVm,
  gpa: bigint,
  sizeBytes: number,
  policy: NotifierPolicy,
): Result<void> {
  const takeBack = (): void => {
    vm.mmu.zap(gpa, sizeBytes);
    const hpa = vm.hpaOf(gpa, sizeBytes);
    if (hpa !== undefined) vm.kernel.memory.fill(hpa, sizeBytes, 0);
  };
  if (policy === 'aware') return withVcpusStopped(vm, takeBack);
  takeBack();
  return DONE;
}

/** kvm_mmu_notifier_release(): the address space that the VM was made in is gone. */
export function release(vm: KvmVm, policy: NotifierPolicy): void {
  const sizeBytes = vm.mmu.slot?.sizeBytes ?? 0;
  if (policy === 'unaware') vm.mmu.zap(0n, sizeBytes);
}
