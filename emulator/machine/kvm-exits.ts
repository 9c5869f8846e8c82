/**
 * Exits that KVM takes: those that the payload routes, and those that never passed it.
 *
 * Source: CONTRACT ("Outcome of an exit", "Entry points"); Linux arch/x86/kvm/vmx/vmx.c: vmx_vcpu_run().
 * Invariant: the vCPU goes to the kernel whose handler it jumped to, or that jump is a finding.
 */
import { printExitReason } from '../../abi/exit-reasons.js';
import { hex } from '../../abi/uint.js';
import { VMCS_SLOT } from '../../abi/vmcs-fields.js';
import { REG } from '../cpu/registers.js';
import { enterKvm, onRoutedExit } from '../host/kvm/vcpu-run.js';
import type { Lane } from './lane.js';
import type { Machine } from './machine.js';

/** What KVM takes for a routed exit, from kvm_vmexit to VM entry; to userspace and back. */
const KVM_EXIT_TICKS = 2_500;
const KVM_USER_EXIT_TICKS = 12_000;

/** In the `attach` life cycle HOST_RIP is KVM's own while attached: such an exit passes no payload. */
export function exitsToKvm(machine: Machine, lane: Lane): boolean {
  const found = machine.kvm?.findVcpu(lane.id);
  if (found?.vm.kernel.routingHandler !== lane.rip) return false;
  enterKvm(found.vm, found.vcpu);
  machine.count('exitsToKvmDirectly');
  machine.timeline.addSlice({
    vcpu: lane.id,
    name: printExitReason(lane.vmcs.low(VMCS_SLOT.VM_EXIT_REASON) & 0xffff),
    outcome: 'kvm',
    tscBegin: lane.pcpu.now(),
    tscEnd: lane.pcpu.now(),
    sequence: machine.evidence['exitsToKvmDirectly']!,
  });
  lane.phase = 'payload';
  lane.pcpu.registers.words[2 * REG.RDX] = lane.vmcs.low(VMCS_SLOT.VM_EXIT_REASON);
  onRouted(machine, lane);
  if ((lane.phase as string) === 'payload') machine.step(lane);
  return true;
}

/** The payload is at a routing handler: KVM, if there is one at that address, takes over. */
export function onRouted(machine: Machine, lane: Lane): void {
  const { kvm, timeline } = machine;
  const found = kvm?.findVcpu(lane.id);
  if (kvm === null || found === undefined || found.vm.kernel.routingHandler !== lane.rip) {
    machine.ledger.fail(
      'no-routing-while-detached',
      lane.rip,
      `${lane.describeExit()}: jumped to ${hex(lane.rip)}, where no KVM is`,
    );
    lane.phase = 'stopped';
    return;
  }
  lane.vcpu = found.vcpu;
  const wasAdopting = found.vcpu.state === 'adopting';
  const verdict = onRoutedExit(found.vm, found.vcpu, lane.pcpu.registers.words[2 * REG.RDX]!);
  lane.inExit = false;
  lane.pcpu.clock.advance(verdict.kind === 'user' ? KVM_USER_EXIT_TICKS : KVM_EXIT_TICKS);
  const { banner } = kvm.kernel.image;
  timeline.add(lane.pcpu.now(), lane.id, `routed to ${banner}`, 1);
  if (wasAdopting) timeline.add(lane.pcpu.now(), lane.id, `adopted: ${banner} has its VMCS`, 3);
  if (verdict.kind === 'killed') {
    machine.count('killed');
    timeline.add(lane.pcpu.now(), lane.id, `killed: ${verdict.why}`, 3);
    lane.phase = 'stopped';
    lane.exit.mayEnd = true;
  } else if (verdict.kind === 'dead') {
    machine.ledger.fail('no-lost-exit', lane.rip, `vCPU ${lane.id}: ${verdict.why}`);
    lane.phase = 'stopped';
  } else {
    lane.phase = verdict.kind === 'stay' ? 'in-kvm' : 'payload';
  }
}
