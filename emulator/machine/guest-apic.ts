/**
 * What a guest does with its local APIC where the processor virtualizes it: no VM exit, or one after the fact.
 *
 * Source: SDM, "Virtualizing MSR-Based APIC Accesses", "EOI Virtualization", "Self-IPI Virtualization".
 * Invariant: an access that is not virtualized changes nothing here and is the VM exit that it would be anyhow.
 */
import { EXIT_REASON } from '../../abi/exit-reasons.js';
import { low32 } from '../../abi/uint.js';
import { X2APIC } from '../../abi/x2apic.js';
import type { GuestExit } from '../guest/guest.js';
import { deliversVirtualInterrupts, VirtualApic, type VirtualAccess } from '../vmx/virtual-apic.js';
import type { Lane } from './lane.js';

/** An exit that may be an access to an x2APIC register, as the processor treats it. */
export function accessApic(lane: Lane, { basic, registers }: GuestExit): VirtualAccess {
  if (!deliversVirtualInterrupts(lane.vmcs)) return { kind: 'no' };
  const apic = new VirtualApic(lane.pcpu.memory, lane.vmcs);
  const index = low32(registers?.RCX ?? 0n);
  if (basic === EXIT_REASON.EXIT_REASON_MSR_READ)
    return { kind: apic.readMsr(index) === undefined ? 'no' : 'done' };
  if (basic !== EXIT_REASON.EXIT_REASON_MSR_WRITE) return { kind: 'no' };
  const value = low32(registers?.RAX ?? 0n);
  const access = apic.writeMsr(index, value);
  if (access.kind === 'done' && index === X2APIC.SELF_IPI)
    lane.interrupts.assert(value, lane.pcpu.now());
  return access;
}
