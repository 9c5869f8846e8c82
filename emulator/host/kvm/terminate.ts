/**
 * The end of a vCPU that runs alone in a kernel that does not adopt its VM.
 *
 * Happy path:
 * 1. can_finish: the request to stop, and a kick; the payload serializes itself, leaves VMX and waits.
 * 2. finish: INIT and SIPI bring the core back, which is present and online again; every page is restored and freed.
 *
 * Unhappy path: the payload does not stop. Its core is in VMX root operation, where INIT is blocked: the session cannot be
 * finished, and everything that the core can reach stays as it is.
 *
 * Source: CONTRACT ("Stop and serialize"); SDM, "Blocking of Events in VMX Operation"; Linux kernel/liveupdate/luo_file.c:
 * luo_file_finish(), for a file that was never retrieved.
 * Invariant: no page is freed that a core still runs from; `state` and `request` of the control block keep place and
 * meaning in each of its versions, or a kernel could not end what it cannot adopt.
 */
import { KVM_VCPU_SER } from '../../../abi/kho-records.js';
import { StructView } from '../../../abi/layout.js';
import { PAGE_SIZE } from '../../memory/physical-memory.js';
import { DONE, refuse, type Result } from '../result.js';
import type { Kvm } from './kvm.js';
import { KvmVcpu } from './vcpu.js';
import { requestStop } from './vcpu-run.js';
import { VcpuMemory } from './vcpu-memory.js';

function vcpuOf(kvm: Kvm, view: StructView, memory: VcpuMemory): KvmVcpu | undefined {
  const cpu = kvm.kernel.hotplug.cpuOfApicId(view.number('pcpu_apic_id'));
  if (cpu === undefined) return undefined;
  const vcpu = new KvmVcpu(kvm.kernel.memory, view.number('vcpu_id'), cpu, memory);
  vcpu.ccb = view.get('ccb');
  return vcpu;
}

/** Has the payload of a vCPU that nobody adopts stop; asked again, it has. Errnos: ENODEV; ETIMEDOUT it does not. */
export function stopUnadopted(kvm: Kvm, record: bigint): Result<void> {
  const view = new StructView(KVM_VCPU_SER, kvm.kernel.memory, record);
  const vcpu = vcpuOf(kvm, view, VcpuMemory.read(view));
  if (vcpu === undefined) return refuse('ENODEV');
  const hasLeftVmx = (): boolean => ['SERIALIZED', 'PARKED'].includes(vcpu.payloadState);
  if (hasLeftVmx()) return DONE;
  requestStop(kvm.machine, vcpu);
  return kvm.machine.waitFor(hasLeftVmx) ? DONE : refuse('ETIMEDOUT');
}

/** It has stopped: core and pages are the kernel's again. Errnos: ENODEV; ETIMEDOUT its core blocks INIT; those of KHO. */
export function disposeOf(kvm: Kvm, record: bigint): Result<void> {
  const { kernel, machine, services } = kvm;
  const view = new StructView(KVM_VCPU_SER, kernel.memory, record);
  const memory = VcpuMemory.restore(services, view);
  if (!memory.ok) return memory;
  const vcpu = vcpuOf(kvm, view, memory.value);
  if (vcpu === undefined) return refuse('ENODEV');
  const reclaimed = machine.reclaimCore(vcpu.pcpu);
  if (!reclaimed.ok) return reclaimed;
  machine.vcpuTerminated(vcpu.id);
  kernel.hotplug.requestExit(vcpu.pcpu);
  kernel.hotplug.reportDead(vcpu.pcpu);
  kernel.hotplug.online(vcpu.pcpu);
  const { hpa, pages } = memory.value.instance;
  memory.value.free(services);
  machine.codePlaced(hpa, pages * PAGE_SIZE);
  return DONE;
}
