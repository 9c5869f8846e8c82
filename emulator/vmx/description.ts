/**
 * A VMCS as a plain list of field values, and one that passes every check of VM entry.
 *
 * Source: SDM, "VM Entries" > the checks; the values are those of a 64-bit guest under a 64-bit host as KVM sets them up.
 * Invariant: validVmcs() describes every field that a check reads; a field that it leaves out is 0.
 */
import { u64 } from '../../abi/uint.js';
import { VMCS_FIELDS, type FieldName } from '../../abi/vmcs-fields.js';
import { ENTRY_CONTROL, EXIT_CONTROL, PIN, PRIMARY, SECONDARY } from '../../abi/vmx-controls.js';
import { DEFAULT_CAPABILITIES, type VmxCapabilities } from './capabilities.js';
import type { Vmcs } from './vmcs.js';

/** Values of some fields of a VMCS. */
export type VmcsDescription = Readonly<Partial<Record<FieldName, bigint>>>;

/** Physical pages that validVmcs() points to; a machine overrides the fields to move them. */
export const VALID_VMCS_PAGES = {
  msrBitmap: 0x1_0000n,
  virtualApic: 0x1_1000n,
  eptPml4: 0x1_2000n,
  guestCr3: 0x1_3000n,
  hostCr3: 0x1_4000n,
  spare: 0x1_5000n,
  otherSpare: 0x1_6000n,
} as const;

/** The pointer value that means "no VMCS". */
export const NO_VMCS = 0xffff_ffff_ffff_ffffn;

function bits(...set: number[]): bigint {
  return BigInt(set.reduce((all, bit) => all | bit, 0) >>> 0);
}

function controls(capabilities: VmxCapabilities): VmcsDescription {
  return {
    PIN_BASED_VM_EXEC_CONTROL: bits(
      capabilities.pin.allowed0,
      PIN.EXT_INTR_EXITING,
      PIN.NMI_EXITING,
      PIN.VIRTUAL_NMIS,
      PIN.PREEMPTION_TIMER,
    ),
    CPU_BASED_VM_EXEC_CONTROL: bits(
      capabilities.primary.allowed0,
      PRIMARY.USE_TSC_OFFSETTING,
      PRIMARY.HLT_EXITING,
      PRIMARY.TPR_SHADOW,
      PRIMARY.UNCOND_IO_EXITING,
      PRIMARY.USE_MSR_BITMAPS,
      PRIMARY.ACTIVATE_SECONDARY,
    ),
    SECONDARY_VM_EXEC_CONTROL: bits(
      SECONDARY.ENABLE_EPT,
      SECONDARY.ENABLE_RDTSCP,
      SECONDARY.ENABLE_VPID,
      SECONDARY.ENABLE_INVPCID,
    ),
    VM_EXIT_CONTROLS: bits(
      capabilities.exit.allowed0,
      EXIT_CONTROL.SAVE_DEBUG_CONTROLS,
      EXIT_CONTROL.HOST_ADDR_SPACE_SIZE,
      EXIT_CONTROL.ACK_INTR_ON_EXIT,
      EXIT_CONTROL.SAVE_IA32_PAT,
      EXIT_CONTROL.LOAD_IA32_PAT,
      EXIT_CONTROL.SAVE_IA32_EFER,
      EXIT_CONTROL.LOAD_IA32_EFER,
      EXIT_CONTROL.SAVE_VMX_PREEMPTION_TIMER,
      EXIT_CONTROL.LOAD_CET_STATE,
    ),
    VM_ENTRY_CONTROLS: bits(
      capabilities.entry.allowed0,
      ENTRY_CONTROL.LOAD_DEBUG_CONTROLS,
      ENTRY_CONTROL.IA32E_MODE,
      ENTRY_CONTROL.LOAD_IA32_PAT,
      ENTRY_CONTROL.LOAD_IA32_EFER,
      ENTRY_CONTROL.LOAD_CET_STATE,
    ),
    VIRTUAL_PROCESSOR_ID: 1n,
    MSR_BITMAP: VALID_VMCS_PAGES.msrBitmap,
    VIRTUAL_APIC_PAGE_ADDR: VALID_VMCS_PAGES.virtualApic,
    EPT_POINTER: VALID_VMCS_PAGES.eptPml4 | 0x5en, // write-back, 4 levels, accessed and dirty flags
    VMCS_LINK_POINTER: NO_VMCS,
    VMX_PREEMPTION_TIMER_VALUE: 0xffff_ffffn,
  };
}

const PAT_RESET = 0x0007_0406_0007_0406n;

const HOST: VmcsDescription = {
  HOST_CR0: 0x8005_0033n,
  HOST_CR3: VALID_VMCS_PAGES.hostCr3,
  HOST_CR4: 0x0005_26e0n,
  HOST_CS_SELECTOR: 0x10n,
  HOST_SS_SELECTOR: 0x18n,
  HOST_TR_SELECTOR: 0x40n,
  HOST_FS_BASE: 0n,
  HOST_GS_BASE: 0xffff_8880_0000_0000n,
  HOST_TR_BASE: 0xffff_fe00_0000_3000n,
  HOST_GDTR_BASE: 0xffff_fe00_0000_1000n,
  HOST_IDTR_BASE: 0xffff_fe00_0000_0000n,
  HOST_IA32_SYSENTER_CS: 0x10n,
  HOST_IA32_SYSENTER_ESP: 0xffff_fe00_0000_2000n,
  HOST_IA32_SYSENTER_EIP: 0xffff_ffff_8100_1000n,
  HOST_RSP: 0xffff_c900_0000_3ff0n,
  HOST_RIP: 0xffff_ffff_8100_0000n,
  HOST_IA32_PAT: PAT_RESET,
  HOST_IA32_EFER: 0xd01n,
};

const GUEST: VmcsDescription = {
  GUEST_CR0: 0x8005_0033n,
  GUEST_CR3: VALID_VMCS_PAGES.guestCr3,
  GUEST_CR4: 0x0004_26e0n,
  GUEST_CS_SELECTOR: 0x10n,
  GUEST_CS_LIMIT: 0xffff_ffffn,
  GUEST_CS_AR_BYTES: 0xa09bn,
  GUEST_SS_SELECTOR: 0x18n,
  GUEST_SS_LIMIT: 0xffff_ffffn,
  GUEST_SS_AR_BYTES: 0xc093n,
  GUEST_DS_LIMIT: 0xffff_ffffn,
  GUEST_DS_AR_BYTES: 0x1_c093n,
  GUEST_ES_LIMIT: 0xffff_ffffn,
  GUEST_ES_AR_BYTES: 0x1_c093n,
  GUEST_FS_LIMIT: 0xffff_ffffn,
  GUEST_FS_AR_BYTES: 0x1_c093n,
  GUEST_GS_LIMIT: 0xffff_ffffn,
  GUEST_GS_AR_BYTES: 0x1_c093n,
  GUEST_GS_BASE: 0xffff_8880_1000_0000n,
  GUEST_LDTR_AR_BYTES: 0x1_0082n,
  GUEST_TR_SELECTOR: 0x40n,
  GUEST_TR_BASE: 0xffff_fe00_0010_3000n,
  GUEST_TR_LIMIT: 0x67n,
  GUEST_TR_AR_BYTES: 0x8bn,
  GUEST_GDTR_BASE: 0xffff_fe00_0010_1000n,
  GUEST_GDTR_LIMIT: 0x7fn,
  GUEST_IDTR_BASE: 0xffff_fe00_0010_0000n,
  GUEST_IDTR_LIMIT: 0xfffn,
  GUEST_DR7: 0x400n,
  GUEST_RSP: 0xffff_c900_0010_3ff0n,
  GUEST_RIP: 0xffff_ffff_8120_0000n,
  GUEST_RFLAGS: 0x202n,
  GUEST_SYSENTER_CS: 0x10n,
  GUEST_SYSENTER_ESP: 0xffff_fe00_0010_2000n,
  GUEST_SYSENTER_EIP: 0xffff_ffff_8120_1000n,
  GUEST_IA32_PAT: PAT_RESET,
  GUEST_IA32_EFER: 0xd01n,
};

/** A VMCS that passes every check of VM entry, with `overrides` on top. */
export function validVmcs(
  overrides: VmcsDescription = {},
  capabilities: VmxCapabilities = DEFAULT_CAPABILITIES,
): VmcsDescription {
  return { ...controls(capabilities), ...HOST, ...GUEST, ...overrides };
}

/** Writes every described field. */
export function applyDescription(vmcs: Vmcs, description: VmcsDescription): void {
  for (const field of VMCS_FIELDS) {
    const value = description[field.name];
    if (value !== undefined) vmcs.set(field.slot, u64(value));
  }
}

/** The fields of a VMCS that are not 0, read-only ones and poison apart. */
export function describeVmcs(vmcs: Vmcs): VmcsDescription {
  return Object.fromEntries(
    VMCS_FIELDS.filter(
      (field) => !field.readOnly && !vmcs.isPoison(field.slot) && vmcs.get(field.slot) !== 0n,
    ).map((field) => [field.name, vmcs.get(field.slot)]),
  );
}
