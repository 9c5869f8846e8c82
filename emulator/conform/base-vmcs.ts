/**
 * A VMCS that passes every check on both machines and whose guest exits at its first fetch.
 *
 * Source: validVmcs() of emulator/vmx, with the second machine's addresses and without controls that it does not offer.
 * Invariant: its EPT is empty, so an entry that succeeds exits with an EPT violation before any guest instruction.
 */
import { low32 } from '../../abi/uint.js';
import type { FieldName } from '../../abi/vmcs-fields.js';
import type { AllowedBits, VmxCapabilities } from '../vmx/capabilities.js';
import { validVmcs, type VmcsDescription } from '../vmx/description.js';
import { LAYOUT } from './layout.js';

const HOST: VmcsDescription = {
  HOST_CR3: LAYOUT.HOST_CR3,
  HOST_GDTR_BASE: LAYOUT.GDT,
  HOST_IDTR_BASE: LAYOUT.IDT,
  HOST_TR_BASE: LAYOUT.TSS,
  HOST_RSP: LAYOUT.EXIT_STACK,
  HOST_RIP: LAYOUT.EXIT_STUB,
};

/** A guest that nothing else ends, one that halts for ever for instance, ends with its timer. */
const SOON = 0x1_0000n;

const BASES = new WeakMap<VmxCapabilities, VmcsDescription>();

/** The description, with the controls that `capabilities` offers. */
export function baseVmcs(
  capabilities: VmxCapabilities,
  overrides: VmcsDescription = {},
): VmcsDescription {
  const base = BASES.get(capabilities) ?? offeredBy(capabilities);
  BASES.set(capabilities, base);
  return { ...base, ...overrides };
}

function offeredBy(capabilities: VmxCapabilities): VmcsDescription {
  const valid = validVmcs(HOST, capabilities);
  const offered = (name: FieldName, { allowed0, allowed1 }: AllowedBits): bigint =>
    BigInt(((low32(valid[name] ?? 0n) | allowed0) & allowed1) >>> 0);
  return {
    ...valid,
    PIN_BASED_VM_EXEC_CONTROL: offered('PIN_BASED_VM_EXEC_CONTROL', capabilities.pin),
    CPU_BASED_VM_EXEC_CONTROL: offered('CPU_BASED_VM_EXEC_CONTROL', capabilities.primary),
    SECONDARY_VM_EXEC_CONTROL: offered('SECONDARY_VM_EXEC_CONTROL', capabilities.secondary),
    VM_EXIT_CONTROLS: offered('VM_EXIT_CONTROLS', capabilities.exit),
    VM_ENTRY_CONTROLS: offered('VM_ENTRY_CONTROLS', capabilities.entry),
    HOST_CR4: valid.HOST_CR4! & capabilities.cr4Fixed1,
    GUEST_CR4: valid.GUEST_CR4! & capabilities.cr4Fixed1,
    VMX_PREEMPTION_TIMER_VALUE: SOON,
  };
}
