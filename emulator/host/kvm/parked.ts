/**
 * A vCPU whose payload has parked its core: why, whether its guest can go on, and how it comes to another instance.
 *
 * Happy path, by the policy `restart`:
 * 1. retrieve: the park record is read; INIT and SIPI bring the core back, because the payload has left VMX.
 * 2. KVM_SET_CARETAKER again: a fresh instance takes the place of the one that faulted.
 * 3. KVM_RUN: the exit that was never answered comes to KVM from the VMCS that the payload has cleared, and the guest goes
 *    on with the new instance.
 *
 * Unhappy paths: policy `kill`; a guest whose state is not whole; a core that does not come back. The vCPU is dead then,
 * and the others go on.
 *
 * Source: the RFC, "Stray Hardware Interrupts" ("parking the core or logging the event"); SDM, "Processor State After
 * Initialization", for what INIT takes away; "INIT" in "Blocking of Events in VMX Operation".
 * Invariant: a guest goes on only with every register that it had.
 */
import { CARETAKER_REGISTER_ORDER } from '../../../abi/ccb.js';
import { VECTOR } from '../../../abi/interruption.js';
import { hex } from '../../../abi/uint.js';
import type { StructView } from '../../../abi/layout.js';
import { ok, refuse, type Result } from '../result.js';
import type { KvmVcpu } from './vcpu.js';
import { exitContextOf, takeOverVmcs, startVcpu } from './vcpu-run.js';
import { handleRoutedExit, type ExitVerdict } from './exits.js';
import type { KvmVm } from './vm.js';
import { vmptrld } from './vmx-ops.js';

/** What a KVM does with a vCPU that comes to it parked. */
export type ParkedPolicy = 'kill' | 'restart';

/** DR7.L0 to DR7.G3. */
const BREAKPOINTS_ENABLED = 0xffn;

/** The park record in words. */
export function whyParked(telemetry: StructView): string {
  const vector = telemetry.number('park_vector');
  const name = Object.entries(VECTOR).find(([, number]) => number === vector)?.[0];
  return (
    `${name === undefined ? `vector ${vector}` : `#${name}`}, error code ${hex(telemetry.get('park_error_code'))}, ` +
    `RIP ${hex(telemetry.get('park_rip'))}, CR2 ${hex(telemetry.get('park_cr2'))}`
  );
}

/** Why the guest of a parked vCPU has lost something, as far as its pages tell; null when it has not. */
function whatIsLost({ ccbView, telemetry }: KvmVcpu): string | null {
  if (telemetry.number('park_valid') !== 1) return 'there is no park record';
  const vector = telemetry.number('park_vector');
  if (vector === VECTOR.MC) return 'a machine check may have destroyed its context';
  if (vector === VECTOR.PF) return "the fault has overwritten the guest's CR2";
  if (ccbView.number('registers_valid') !== 1) return 'the exit was half answered';
  return null;
}

/** retrieve() found the vCPU parked. The value says why it is dead; null when it waits for another instance. */
export function judgeParked(vm: KvmVm, vcpu: KvmVcpu, policy: ParkedPolicy): string | null {
  const lost = policy === 'kill' ? 'killed by policy' : whatIsLost(vcpu);
  const isBack = vm.machine.reclaimCore(vcpu.pcpu).ok;
  const why = lost ?? (isBack ? null : 'its core does not answer INIT');
  vcpu.state = why === null ? 'parked' : 'dead';
  return why;
}

/** The guest's registers go from the instance that faulted to the one that takes its place. */
export function guestRegistersOf({ ccbView }: KvmVcpu): readonly bigint[] {
  return CARETAKER_REGISTER_ORDER.map((_, index) => ccbView.get(`registers[${index}]`));
}

/** KVM_RUN of a parked vCPU with a fresh instance. Errnos: EIO its guest has breakpoints set, which INIT has cleared. */
export function resumeParked(vm: KvmVm, vcpu: KvmVcpu): Result<ExitVerdict> {
  const cpu = vm.enableCore(vcpu.pcpu);
  const vmcs = vmptrld(cpu, vcpu.vmcsRegion);
  if ((vmcs.read('GUEST_DR7') & BREAKPOINTS_ENABLED) !== 0n) {
    vcpu.state = 'dead';
    return refuse('EIO');
  }
  // INIT has cleared CR2; at the fault it was still the guest's.
  cpu.registers.set('CR2', vcpu.telemetry.get('park_cr2'));
  const verdict = handleRoutedExit(exitContextOf(vm, vcpu, cpu, vmcs));
  if (verdict.kind === 'dead' || verdict.kind === 'killed') {
    vcpu.state = 'dead';
    return ok(verdict);
  }
  vm.machine.vcpuTakesOver(vcpu.id);
  takeOverVmcs(vm, vcpu);
  vm.machine.vcpuTookOver(vcpu.id);
  vcpu.ccbView.set('registers_valid', 1);
  startVcpu(vm, vcpu);
  return ok(verdict);
}
