/**
 * The VMCS as KVM programs it for a vCPU, with and without a Caretaker on its host-state area.
 *
 * Source: Linux arch/x86/kvm/vmx/vmx.c: init_vmcs(), vmx_set_constant_host_state(); the RFC, "Hardware Interposition".
 * Invariant: a Caretaker gets HOST_RIP, HOST_RSP, HOST_CR3, HOST_GS_BASE, HOST_TR, HOST_GDTR_BASE and HOST_IDTR_BASE
 * from its own structures at every VM exit (CONTRACT, "CR3 policies"), HOST_CR3 by policy.
 */
import { CARETAKER_CCB } from '../../../abi/ccb.js';
import { VECTOR } from '../../../abi/interruption.js';
import { CET } from '../../../abi/msrs.js';
import { StructView } from '../../../abi/layout.js';
import type { FieldName } from '../../../abi/vmcs-fields.js';
import { ENTRY_CONTROL, EXIT_CONTROL, PIN, PRIMARY, SECONDARY } from '../../../abi/vmx-controls.js';
import type { PhysicalBytes } from '../../memory/physical-memory.js';
import { validVmcs, type VmcsDescription } from '../../vmx/description.js';
import type { VmxCapabilities } from '../../vmx/capabilities.js';
import { STACK_BYTES, type VcpuMemory } from './vcpu-memory.js';

const or = (...bits: number[]): bigint => BigInt(bits.reduce((all, bit) => all | bit, 0) >>> 0);

/** vmx_update_exception_bitmap() of a guest with EPT that nobody debugs: #DB, #UD, #AC and #MC. */
const INTERCEPTED_EXCEPTIONS = or(1 << VECTOR.DB, 1 << VECTOR.UD, 1 << VECTOR.AC, 1 << VECTOR.MC);

/** CR4 of a Linux host, and CR4.CET, which user shadow stacks need there anyway. */
const LINUX_CR4 = 0x0005_26e0n;
const CR4_CET = 1n << 23n;

/** KVM's own code has no shadow stack. */
const NO_SHADOW_STACK: VmcsDescription = {
  HOST_S_CET: 0n,
  HOST_SSP: 0n,
  HOST_INTR_SSP_TABLE: 0n,
  GUEST_S_CET: 0n,
  GUEST_SSP: 0n,
  GUEST_INTR_SSP_TABLE: 0n,
};

/** enable_apicv of a guest in x2APIC mode. */
const APICV = [
  SECONDARY.VIRTUALIZE_X2APIC_MODE,
  SECONDARY.APIC_REGISTER_VIRT,
  SECONDARY.VIRTUAL_INTR_DELIVERY,
] as const;

/** Controls and a 64-bit guest; the host area is vmx_set_constant_host_state()'s until a Caretaker takes it. */
export function guestVmcs(
  capabilities: VmxCapabilities,
  memory: VcpuMemory,
  settings: {
    readonly vpid: number;
    readonly eptp: bigint;
    /** Where others post virtual interrupts, and the vector that tells of them; null without. */
    readonly posted: { readonly descriptor: bigint; readonly vector: number } | null;
    readonly tscOffset: bigint;
    readonly hostCr3: bigint;
    readonly hostRip: bigint;
    readonly hostStack: bigint;
  },
): VmcsDescription {
  const cet = memory.has('shadowStack');
  const { posted } = settings;
  return validVmcs(
    {
      PIN_BASED_VM_EXEC_CONTROL: or(
        capabilities.pin.allowed0,
        PIN.EXT_INTR_EXITING,
        PIN.NMI_EXITING,
        PIN.VIRTUAL_NMIS,
        posted === null ? 0 : PIN.POSTED_INTR,
      ),
      CPU_BASED_VM_EXEC_CONTROL: or(
        capabilities.primary.allowed0,
        PRIMARY.USE_TSC_OFFSETTING,
        PRIMARY.HLT_EXITING,
        PRIMARY.UNCOND_IO_EXITING,
        PRIMARY.USE_MSR_BITMAPS,
        PRIMARY.ACTIVATE_SECONDARY,
        posted === null ? 0 : PRIMARY.TPR_SHADOW,
      ),
      SECONDARY_VM_EXEC_CONTROL: or(
        SECONDARY.ENABLE_EPT,
        SECONDARY.ENABLE_RDTSCP,
        SECONDARY.ENABLE_VPID,
        SECONDARY.ENABLE_INVPCID,
        ...(posted === null ? [] : APICV),
      ),
      VM_EXIT_CONTROLS: or(
        capabilities.exit.allowed0,
        EXIT_CONTROL.SAVE_DEBUG_CONTROLS,
        EXIT_CONTROL.HOST_ADDR_SPACE_SIZE,
        EXIT_CONTROL.ACK_INTR_ON_EXIT,
        EXIT_CONTROL.SAVE_IA32_PAT,
        EXIT_CONTROL.LOAD_IA32_PAT,
        EXIT_CONTROL.SAVE_IA32_EFER,
        EXIT_CONTROL.LOAD_IA32_EFER,
        cet ? EXIT_CONTROL.LOAD_CET_STATE : 0,
      ),
      VM_ENTRY_CONTROLS: or(
        capabilities.entry.allowed0,
        ENTRY_CONTROL.LOAD_DEBUG_CONTROLS,
        ENTRY_CONTROL.IA32E_MODE,
        ENTRY_CONTROL.LOAD_IA32_PAT,
        ENTRY_CONTROL.LOAD_IA32_EFER,
        cet ? ENTRY_CONTROL.LOAD_CET_STATE : 0,
      ),
      ...(cet ? { ...NO_SHADOW_STACK, HOST_CR4: LINUX_CR4 | CR4_CET } : {}),
      EXCEPTION_BITMAP: INTERCEPTED_EXCEPTIONS,
      VIRTUAL_PROCESSOR_ID: BigInt(settings.vpid),
      MSR_BITMAP: memory.at('msrBitmap'),
      VIRTUAL_APIC_PAGE_ADDR: posted === null ? 0n : memory.at('virtualApic'),
      POSTED_INTR_DESC_ADDR: posted?.descriptor ?? 0n,
      POSTED_INTR_NV: BigInt(posted?.vector ?? 0),
      EPT_POINTER: settings.eptp,
      TSC_OFFSET: settings.tscOffset,
      HOST_CR3: settings.hostCr3,
      HOST_RIP: settings.hostRip,
      HOST_RSP: settings.hostStack,
    },
    capabilities,
  );
}

/** What the hardware loads at a VM exit into the Caretaker of this CCB. */
export function caretakerHostState(
  bytes: PhysicalBytes,
  ccb: bigint,
  memory: VcpuMemory,
  cr3: bigint,
): VmcsDescription {
  const view = new StructView(CARETAKER_CCB, bytes, ccb);
  return {
    HOST_RIP: view.get('entry_vmexit'),
    HOST_RSP: memory.at('stack') + BigInt(STACK_BYTES),
    HOST_CR3: cr3,
    HOST_GS_BASE: ccb,
    HOST_FS_BASE: 0n,
    HOST_CS_SELECTOR: view.get('selector_cs'),
    HOST_SS_SELECTOR: view.get('selector_ss'),
    HOST_DS_SELECTOR: 0n,
    HOST_ES_SELECTOR: 0n,
    HOST_FS_SELECTOR: 0n,
    HOST_GS_SELECTOR: 0n,
    HOST_TR_SELECTOR: view.get('selector_tr'),
    HOST_TR_BASE: view.get('tss_base'),
    HOST_GDTR_BASE: view.get('gdt_base'),
    HOST_IDTR_BASE: view.get('idt_base'),
    HOST_IA32_SYSENTER_CS: 0n,
    HOST_IA32_SYSENTER_ESP: 0n,
    HOST_IA32_SYSENTER_EIP: 0n,
    ...(memory.has('shadowStack')
      ? {
          HOST_S_CET: CET.SH_STK_EN,
          HOST_SSP: view.get('ssp'),
          HOST_INTR_SSP_TABLE: view.get('interrupt_ssp_table'),
        }
      : {}),
  };
}

/** The same with the kernel's descriptor tables, and the selectors that are in them. */
export function withoutTables(state: VmcsDescription): VmcsDescription {
  const rest = Object.entries(state).filter(([name]) => !TABLE_FIELDS.has(name));
  return Object.fromEntries(rest);
}

const TABLE_FIELDS: ReadonlySet<string> = new Set<FieldName>([
  'HOST_CS_SELECTOR',
  'HOST_SS_SELECTOR',
  'HOST_TR_SELECTOR',
  'HOST_TR_BASE',
  'HOST_GDTR_BASE',
  'HOST_IDTR_BASE',
]);
