/**
 * The VMX instructions that KVM itself executes on a core, each of which it knows to succeed.
 *
 * Source: Linux arch/x86/kvm/vmx/vmx_ops.h: vmcs_load(), vmcs_clear(), ept_sync_context(); vmx.c: kvm_cpu_vmxon().
 * Invariant: a VMfail here is a bug of the host model.
 */
import { HarnessBug } from '../../../abi/errors.js';
import { hex } from '../../../abi/uint.js';
import type { PhysicalBytes } from '../../memory/physical-memory.js';
import type { VmxCapabilities } from '../../vmx/capabilities.js';
import type { Vmcs } from '../../vmx/vmcs.js';
import { execute, type VmxInstruction } from '../../vmx/vmx-instructions.js';
import type { KvmCpu } from './ports.js';

function must(cpu: KvmCpu, instruction: VmxInstruction): void {
  const result = execute(cpu, instruction);
  if (result.kind !== 'succeed') {
    const operand = 'pointer' in instruction ? ` ${hex(instruction.pointer)}` : '';
    throw new HarnessBug(
      `KVM's ${instruction.name}${operand} on core ${cpu.id}: ${JSON.stringify(result)}`,
    );
  }
}

/** alloc_vmcs_cpu(): the revision identifier that VMXON and VMPTRLD look for. */
export function writeRevision(
  bytes: PhysicalBytes,
  region: bigint,
  capabilities: VmxCapabilities,
): void {
  bytes.writeU32(region, capabilities.revision);
}

/** VMXON, and ept_sync_global() as vmx_hardware_enable() has it: what the core cached in an earlier VMX operation is gone. */
export function vmxon(cpu: KvmCpu, region: bigint): void {
  must(cpu, { name: 'VMXON', pointer: region });
  must(cpu, { name: 'INVEPT', type: 2n, descriptor: [0n, 0n] });
}

/** ept_sync_context(). */
export function invept(cpu: KvmCpu, eptp: bigint): void {
  must(cpu, { name: 'INVEPT', type: 1n, descriptor: [eptp, 0n] });
}

export function vmxoff(cpu: KvmCpu): void {
  must(cpu, { name: 'VMXOFF' });
}

export function vmclear(cpu: KvmCpu, region: bigint): void {
  must(cpu, { name: 'VMCLEAR', pointer: region });
}

/** Makes the VMCS of a region current and active on the core. */
export function vmptrld(cpu: KvmCpu, region: bigint): Vmcs {
  must(cpu, { name: 'VMPTRLD', pointer: region });
  const { current } = cpu.vmx;
  if (current === null) throw new HarnessBug('VMPTRLD left no current VMCS');
  return current;
}
