/**
 * A vCPU on its core: KVM_RUN, the routed exit, leaving KVM_ATTACHED, running alone, and coming back.
 *
 * Happy path of a vCPU across a live update:
 * 1. start: VMPTRLD, KVM_ATTACHED, jump to the payload's run entry.
 * 2. routed: the exit is handled; the guest goes on through run.
 * 3. isolate: stopped in KVM, VMCLEAR, KVM_DETACHED, host state by policy; its core goes offline with VMXOFF, does VMXON
 *    with a preserved region and jumps to run.
 * 4. adopt (next kernel): routing pointers, epoch, KVM_ATTACHED, a kick.
 * 5. first routed exit in the next kernel: handled from the old VMCS, whose guest fields then go to one of its own.
 *
 * Unhappy paths: a payload that never comes back is found by stopVcpu()'s time-out (ETIMEDOUT), and nothing is undone.
 *
 * Source: CONTRACT ("Entry points", "Reachable and preserved"); Linux arch/x86/kvm/vmx/vmx.c.
 * Invariant: VMX instructions are executed on the vCPU's core and nowhere else.
 */
import { HarnessBug } from '../../../abi/errors.js';
import {
  CARETAKER_NO_EXIT,
  CARETAKER_REGISTER_ORDER,
  CARETAKER_REQUEST,
} from '../../../abi/ccb.js';
import { MSR } from '../../../abi/msrs.js';
import { hex, low32 } from '../../../abi/uint.js';
import { INTR_INFO } from '../../../abi/interruption.js';
import {
  KVM_STEAL_TIME,
  PV_MSR,
  PV_MSR_ENABLE,
  PVCLOCK_VCPU_TIME_INFO,
  PVCLOCK_WALL_CLOCK,
} from '../../../abi/pv-clock.js';
import { VMCS_FIELDS } from '../../../abi/vmcs-fields.js';
import { applyDescription, type VmcsDescription } from '../../vmx/description.js';
import { PostedDescriptor } from '../../vmx/posted-descriptor.js';
import type { Vmcs } from '../../vmx/vmcs.js';
import { postInterrupt, type ApicPeer } from './lapic.js';
import {
  handleRoutedExit,
  handleStoppedExit,
  takeHostEvents,
  type ExitContext,
  type ExitVerdict,
} from './exits.js';
import type { KvmCpu, KvmMachine } from './ports.js';
import { addSteal, clockAt, writeTimeInfo, writeWallClock } from './pv-clock.js';
import type { KvmVcpu } from './vcpu.js';
import { POSTED_INTR_VECTOR, type KvmVm } from './vm.js';
import { caretakerHostState } from './vmcs-setup.js';
import { vmclear, vmptrld, vmxoff, vmxon, writeRevision } from './vmx-ops.js';

/** The VMCS that the vCPU's core has current. @throws HarnessBug when it has none. */
function currentVmcs(cpu: KvmCpu): Vmcs {
  if (cpu.vmx.current === null) throw new HarnessBug(`core ${cpu.id} has no current VMCS`);
  return cpu.vmx.current;
}

/** KVM's thread enters the guest through the payload's run entry: its own CR3, stack and GS stay in use until then. */
export function enterThroughRun(vm: KvmVm, vcpu: KvmVcpu): void {
  const cpu = vm.machine.cpu(vcpu.pcpu);
  const routing = vm.routingOf(vcpu);
  cpu.registers.set('RIP', vcpu.ccbView.get('entry_run'));
  cpu.registers.set('RDI', vcpu.ccb);
  cpu.registers.set('RSP', routing.stack);
  cpu.registers.set('RFLAGS', 2n);
  cpu.registers.set('CR3', routing.cr3);
  cpu.registers.set('GS_BASE', routing.gsBase);
  // A routed exit leaves S_CET as VM exit loaded it; KVM's own code has no shadow stack.
  cpu.msrs.write(MSR.IA32_S_CET, 0n);
}

/** vmx_vcpu_pi_load(): what is posted for the vCPU tells the core that it is about to run on. */
function loadDescriptor(vm: KvmVm, vcpu: KvmVcpu): void {
  if (!vm.postsInterrupts) return;
  const { apicId } = vm.machine.cpu(vcpu.pcpu);
  const descriptor = new PostedDescriptor(vm.kernel.memory, vcpu.descriptorAddress);
  descriptor.aim({ apicId, vector: POSTED_INTR_VECTOR }, false);
}

/** KVM_RUN for the first time, or after the vCPU was stopped in KVM. */
export function startVcpu(vm: KvmVm, vcpu: KvmVcpu): void {
  const cpu = vm.enableCore(vcpu.pcpu);
  vmptrld(cpu, vcpu.vmcsRegion);
  if (vcpu.state === 'created') vcpu.ccbView.set('registers_valid', 1);
  if (!vcpu.isAttached) vcpu.attach(vm.routingOf(vcpu));
  vcpu.stopRequested = false;
  // Without an interposed payload nobody but KVM has seen it.
  vcpu.ccbView.set('request', CARETAKER_REQUEST.NONE);
  vcpu.state = 'running';
  loadClocks(vm, vcpu);
  loadDescriptor(vm, vcpu);
  enterThroughRun(vm, vcpu);
  vm.machine.vcpuStarted(vcpu.id);
}

/** vmx_vcpu_load() on another core: VMCLEAR where it was, VMPTRLD where it goes; peers learn where to kick it. */
export function moveVcpu(vm: KvmVm, vcpu: KvmVcpu, pcpu: number): void {
  vmclear(vm.machine.cpu(vcpu.pcpu), vcpu.vmcsRegion);
  vcpu.pcpu = pcpu;
  vm.writeConfigs();
  startVcpu(vm, vcpu);
}

/** What came of a jump to kvm_vmexit. */
export type RoutedVerdict =
  | ExitVerdict
  /** The vCPU stays in KVM. */
  | { readonly kind: 'stay' };

/**
 * The payload has jumped to kvm_vmexit on the vCPU's core with `word` in RDX. It may bring the exit in the VMCS, events of
 * the host's that it took, both, or a stop, after VMCLEAR and perhaps VMXOFF. A payload that has lost its VMCS ends the vCPU.
 */
export function onRoutedExit(vm: KvmVm, vcpu: KvmVcpu, word: number): RoutedVerdict {
  const cpu = vm.machine.cpu(vcpu.pcpu);
  const isSerialized = vcpu.payloadState === 'SERIALIZED';
  if (isSerialized) resumeVmx(vcpu, cpu);
  const vmcs = cpu.vmx.current;
  if (vmcs?.regionPa !== vcpu.vmcsRegion || cpu.vmx.mode !== 'root') {
    vcpu.state = 'dead';
    return { kind: 'dead', why: 'the core has another VMCS current than KVM gave it' };
  }
  const verdict = answer(vm, vcpu, cpu, vmcs, { word, isSerialized });
  if (verdict.kind === 'dead' || verdict.kind === 'killed') {
    vcpu.state = 'dead';
    return verdict;
  }
  if (vcpu.state === 'adopting') {
    vm.machine.vcpuTakesOver(vcpu.id);
    takeOverVmcs(vm, vcpu);
    vm.machine.vcpuTookOver(vcpu.id);
    loadClocks(vm, vcpu);
  }
  vcpu.state = 'in-kvm';
  if (vcpu.stopRequested) return { kind: 'stay' };
  vcpu.state = 'running';
  enterThroughRun(vm, vcpu);
  return verdict;
}

/** The vCPU stopped and serialized itself: KVM takes the VMCS up again where VMCLEAR left it. */
function resumeVmx(vcpu: KvmVcpu, cpu: KvmCpu): void {
  if (cpu.vmx.mode === 'off') vmxon(cpu, vcpu.memory.at('vmxon'));
  vmptrld(cpu, vcpu.vmcsRegion);
  vcpu.ccbView.set('launch_state', 0);
  vcpu.ccbView.set('request', CARETAKER_REQUEST.NONE);
}

function answer(
  vm: KvmVm,
  vcpu: KvmVcpu,
  cpu: KvmCpu,
  vmcs: Vmcs,
  how: { readonly word: number; readonly isSerialized: boolean },
): ExitVerdict {
  const context = exitContextOf(vm, vcpu, cpu, vmcs);
  const ofHost = takeHostEvents(context);
  if (ofHost.kind !== 'enter' || how.word === CARETAKER_NO_EXIT) return ofHost;
  const reason = low32(vmcs.read('VM_EXIT_REASON'));
  if (how.word !== reason) {
    return { kind: 'dead', why: `routed with word ${hex(how.word)}, the exit's is ${hex(reason)}` };
  }
  return how.isSerialized ? handleStoppedExit(context) : handleRoutedExit(context);
}

/** The vCPU as KVM's exit handlers see it. */
export function exitContextOf(vm: KvmVm, vcpu: KvmVcpu, cpu: KvmCpu, vmcs: Vmcs): ExitContext {
  return {
    kernel: vm.kernel,
    cpu,
    vmcs,
    ccb: vcpu.ccb,
    self: peerOf(vm, vcpu),
    peers: vm.vcpus.map((peer) => peerOf(vm, peer)),
    mmu: vm.mmu,
    writePvMsr: (index, value) => writePvMsr(vm, vcpu, index, value),
    forwardInterrupt: (hostVector) => {
      const target = forwardInterrupt(vm, hostVector);
      // Who stands in KVM looks before it enters the guest.
      if (target !== undefined && target !== vcpu) kickIfRun(vm, target);
    },
  };
}

/** A device's irqfd: the vector of its route is posted, wherever the interrupt came. The vCPU it is for, if there is one. */
export function forwardInterrupt(vm: KvmVm, hostVector: number): KvmVcpu | undefined {
  const route = vm.settings.irqRoutes.find((one) => one.hostVector === hostVector);
  const target = vm.vcpus.find(({ id }) => id === route?.vcpuId);
  if (route === undefined || target === undefined) return;
  postInterrupt(vm.kernel.memory, target.memory.at('softState'), route.guestVector);
  return target;
}

/** kvm_vcpu_kick(): one that has never run has no core to be kicked at. */
export function kickIfRun(vm: KvmVm, vcpu: KvmVcpu): void {
  if (vcpu.state !== 'created') vm.machine.kick(vcpu.id);
}

/** kvm_set_msr_common() for the MSRs of KVM's own. */
function writePvMsr(vm: KvmVm, vcpu: KvmVcpu, index: number, value: bigint): boolean {
  const { memory } = vm.kernel;
  const isOn = (value & PV_MSR_ENABLE) !== 0n;
  const at = (sizeBytes: number): bigint | undefined => vm.hpaOf(value & ~PV_MSR_ENABLE, sizeBytes);
  switch (index) {
    case PV_MSR.SYSTEM_TIME:
      vcpu.pvTimeInfo = isOn ? (at(PVCLOCK_VCPU_TIME_INFO.sizeBytes) ?? 0n) : 0n;
      if (vcpu.pvTimeInfo !== 0n) writeTimeInfo(memory, vcpu.pvTimeInfo, vm.clock);
      return true;
    case PV_MSR.STEAL_TIME:
      vcpu.pvStealTime = isOn ? (at(KVM_STEAL_TIME.sizeBytes) ?? 0n) : 0n;
      return true;
    case PV_MSR.WALL_CLOCK: {
      const hpa = at(PVCLOCK_WALL_CLOCK.sizeBytes);
      const now = vm.machine.now();
      const bootNs = vm.kernel.realtimeNs(now) - clockAt(vm.clock, vm.guestTsc(now));
      if (hpa !== undefined) writeWallClock(memory, hpa, bootNs);
      return true;
    }
    default:
      return false;
  }
}

/** record_steal_time() in vcpu_load(): the thread has waited for its core since it was last scheduled. */
function loadClocks(vm: KvmVm, vcpu: KvmVcpu): void {
  const { memory } = vm.kernel;
  if (vcpu.pvTimeInfo !== 0n) writeTimeInfo(memory, vcpu.pvTimeInfo, vm.clock);
  if (vcpu.pvStealTime !== 0n) addSteal(memory, vcpu.pvStealTime, RUN_DELAY_NS);
}

/** What the scheduler takes to give a vCPU's thread its core. */
const RUN_DELAY_NS = 2_000n;

function peerOf(vm: KvmVm, vcpu: KvmVcpu): ApicPeer {
  return {
    apicId: vcpu.apicId,
    softState: vcpu.memory.at('softState'),
    kick: () => vm.machine.kick(vcpu.id),
  };
}

/**
 * vmx_vmexit, KVM's own entry where no Caretaker is interposed: the guest's registers are saved, and the event whose
 * delivery the exit broke off goes to soft state (__vmx_complete_interrupts()); one that was delivered is over.
 */
export function enterKvm(vm: KvmVm, vcpu: KvmVcpu): void {
  const { registers } = vm.machine.cpu(vcpu.pcpu);
  CARETAKER_REGISTER_ORDER.forEach((name, index) => {
    vcpu.ccbView.set(`registers[${index}]`, registers.get(name));
  });
  vcpu.ccbView.set('registers_valid', 1);
  const vmcs = currentVmcs(vm.machine.cpu(vcpu.pcpu));
  const info = vmcs.read('IDT_VECTORING_INFO_FIELD');
  const isValid = (info & BigInt(INTR_INFO.VALID)) !== 0n;
  const soft = vcpu.softState;
  soft.set('event_info', isValid ? info & ~BigInt(INTR_INFO.UNBLOCK_NMI) : 0n);
  if (!isValid) return;
  soft.set('event_error_code', vmcs.read('IDT_VECTORING_ERROR_CODE'));
  soft.set('event_instruction_length', vmcs.read('VM_EXIT_INSTRUCTION_LEN'));
}

/**
 * What the parked core does with its workload, in the order of CONTRACT: KVM_DETACHED while the vCPU is stopped, VMX on
 * with a preserved region, the payload's own host state whatever was there before, and its run entry.
 */
export function isolate(vm: KvmVm, vcpu: KvmVcpu): void {
  if (vcpu.state !== 'in-kvm') {
    throw new HarnessBug(`vCPU ${vcpu.id} is ${vcpu.state}, not stopped in KVM`);
  }
  const cpu = vm.machine.cpu(vcpu.pcpu);
  vcpu.detach();
  writeRevision(vm.kernel.memory, vcpu.memory.at('vmxon'), vm.machine.capabilities);
  vmxon(cpu, vcpu.memory.at('vmxon'));
  const vmcs = vmptrld(cpu, vcpu.vmcsRegion);
  applyDescription(
    vmcs,
    caretakerHostState(vm.kernel.memory, vcpu.ccb, vcpu.memory, vcpu.isolatedCr3),
  );
  vcpu.ccbView.set('launch_state', 0);
  vcpu.state = 'detached';
  vcpu.stopRequested = false;
  enterThroughRun(vm, vcpu);
  vm.machine.vcpuStarted(vcpu.id);
}

/** Stop and serialize: the request first, then the kick that makes the payload look. */
export function requestStop(machine: Pick<KvmMachine, 'kick'>, vcpu: KvmVcpu): void {
  vcpu.ccbView.set('request', CARETAKER_REQUEST.STOP);
  machine.kick(vcpu.id);
}

/** KVM is there again: the same in the next kernel and when an update is cancelled. */
export function reattach(vm: KvmVm, vcpu: KvmVcpu): void {
  vcpu.attach(vm.routingOf(vcpu));
  vcpu.state = 'adopting';
}

/** Hardware-disable of the core a vCPU ran on: its VMCS goes to memory first. */
export function leaveVmx(vm: KvmVm, vcpu: KvmVcpu): void {
  const cpu = vm.machine.cpu(vcpu.pcpu);
  vmclear(cpu, vcpu.vmcsRegion);
  vmxoff(cpu);
}

/** The next kernel reads the guest's fields once, clears the old VMCS, and goes on with one of its own. */
export function takeOverVmcs(vm: KvmVm, vcpu: KvmVcpu): void {
  const cpu = vm.machine.cpu(vcpu.pcpu);
  const old = currentVmcs(cpu);
  const carried: VmcsDescription = Object.fromEntries(
    VMCS_FIELDS.filter((f) => isCarried(f.name, f.type) && !old.isPoison(f.slot)).map((f) => [
      f.name,
      old.get(f.slot),
    ]),
  );
  vmclear(cpu, vcpu.vmcsRegion);
  const region = vm.kernel.allocate({ pages: 1, label: `vCPU ${vcpu.id} vmcs`, owner: 'vmx' });
  if (!region.ok) throw new HarnessBug('no page for a VMCS');
  writeRevision(vm.kernel.memory, region.value, vm.machine.capabilities);
  vmclear(cpu, region.value);
  const vmcs = vmptrld(cpu, region.value);
  applyDescription(vmcs, { ...vm.describeVmcs(vcpu), ...carried });
  if (vm.settings.lifecycle === 'interpose') {
    applyDescription(vmcs, vm.attachedHostState(vcpu));
  }
  vcpu.memory.replace(vm.kernel, 'vmcs', region.value);
  vcpu.vmcsRegion = region.value;
  vcpu.ccbView.set('vmcs_address', region.value);
  vcpu.ccbView.set('launch_state', 0);
}

/** Guest state, and the event and timer that the payload left armed. */
function isCarried(name: string, type: string): boolean {
  return (
    type === 'guest' ||
    name === 'VM_ENTRY_INTR_INFO_FIELD' ||
    name === 'VM_ENTRY_EXCEPTION_ERROR_CODE' ||
    name === 'VM_ENTRY_INSTRUCTION_LEN' ||
    name === 'PIN_BASED_VM_EXEC_CONTROL' ||
    name === 'CPU_BASED_VM_EXEC_CONTROL'
  );
}
