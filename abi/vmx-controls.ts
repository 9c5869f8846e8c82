/**
 * The bits of the VM-execution, VM-exit and VM-entry controls, by name.
 *
 * Source: SDM, "VM-Execution Control Fields", "VM-Exit Controls", "VM-Entry Controls"; names are Linux's
 * (arch/x86/include/asm/vmx.h, vmxfeatures.h) where Linux has one.
 * Invariant: each 32-bit mask is an unsigned number; the tertiary controls have 64 bits and are bigints.
 */

// prettier-ignore
/** Pin-based VM-execution controls. */
export const PIN = {
  EXT_INTR_EXITING:    1 << 0,
  NMI_EXITING:         1 << 3,
  VIRTUAL_NMIS:        1 << 5,
  PREEMPTION_TIMER:    1 << 6,
  POSTED_INTR:         1 << 7,
} as const;

// prettier-ignore
/** Primary processor-based VM-execution controls. */
export const PRIMARY = {
  INTR_WINDOW_EXITING:  1 << 2,
  USE_TSC_OFFSETTING:   1 << 3,
  HLT_EXITING:          1 << 7,
  INVLPG_EXITING:       1 << 9,
  MWAIT_EXITING:        1 << 10,
  RDPMC_EXITING:        1 << 11,
  RDTSC_EXITING:        1 << 12,
  CR3_LOAD_EXITING:     1 << 15,
  CR3_STORE_EXITING:    1 << 16,
  ACTIVATE_TERTIARY:    1 << 17,
  CR8_LOAD_EXITING:     1 << 19,
  CR8_STORE_EXITING:    1 << 20,
  TPR_SHADOW:           1 << 21,
  NMI_WINDOW_EXITING:   1 << 22,
  MOV_DR_EXITING:       1 << 23,
  UNCOND_IO_EXITING:    1 << 24,
  USE_IO_BITMAPS:       1 << 25,
  MONITOR_TRAP_FLAG:    1 << 27,
  USE_MSR_BITMAPS:      1 << 28,
  MONITOR_EXITING:      1 << 29,
  PAUSE_EXITING:        1 << 30,
  ACTIVATE_SECONDARY:   0x8000_0000,
} as const;

// prettier-ignore
/** Secondary processor-based VM-execution controls. */
export const SECONDARY = {
  VIRTUALIZE_APIC_ACCESSES:  1 << 0,
  ENABLE_EPT:                1 << 1,
  DESC_EXITING:              1 << 2,
  ENABLE_RDTSCP:             1 << 3,
  VIRTUALIZE_X2APIC_MODE:    1 << 4,
  ENABLE_VPID:               1 << 5,
  WBINVD_EXITING:            1 << 6,
  UNRESTRICTED_GUEST:        1 << 7,
  APIC_REGISTER_VIRT:        1 << 8,
  VIRTUAL_INTR_DELIVERY:     1 << 9,
  PAUSE_LOOP_EXITING:        1 << 10,
  RDRAND_EXITING:            1 << 11,
  ENABLE_INVPCID:            1 << 12,
  ENABLE_VMFUNC:             1 << 13,
  SHADOW_VMCS:               1 << 14,
  ENCLS_EXITING:             1 << 15,
  RDSEED_EXITING:            1 << 16,
  ENABLE_PML:                1 << 17,
  EPT_VIOLATION_VE:          1 << 18,
  PT_CONCEAL_VMX:            1 << 19,
  ENABLE_XSAVES:             1 << 20,
  ENABLE_PASID_TRANSLATION:  1 << 21,
  MODE_BASED_EPT_EXEC:       1 << 22,
  SUB_PAGE_WRITE_PERMISSION: 1 << 23,
  PT_USE_GPA:                1 << 24,
  TSC_SCALING:               1 << 25,
  ENABLE_USR_WAIT_PAUSE:     1 << 26,
  ENABLE_PCONFIG:            1 << 27,
  ENCLV_EXITING:             1 << 28,
  BUS_LOCK_DETECTION:        1 << 30,
  NOTIFY_VM_EXITING:         0x8000_0000,
} as const;

// prettier-ignore
/** Tertiary processor-based VM-execution controls (64 bits). */
export const TERTIARY = {
  LOADIWKEY_EXITING:          1n << 0n,
  ENABLE_HLAT:                1n << 1n,
  EPT_PAGING_WRITE:           1n << 2n,
  GUEST_PAGING_VERIFICATION:  1n << 3n,
  IPI_VIRT:                   1n << 4n,
  ENABLE_MSRLIST:             1n << 6n,
  VIRTUALIZE_SPEC_CTRL:       1n << 7n,
} as const;

// prettier-ignore
/** Primary VM-exit controls. */
export const EXIT_CONTROL = {
  SAVE_DEBUG_CONTROLS:         1 << 2,
  HOST_ADDR_SPACE_SIZE:        1 << 9,
  LOAD_IA32_PERF_GLOBAL_CTRL:  1 << 12,
  ACK_INTR_ON_EXIT:            1 << 15,
  SAVE_IA32_PAT:               1 << 18,
  LOAD_IA32_PAT:               1 << 19,
  SAVE_IA32_EFER:              1 << 20,
  LOAD_IA32_EFER:              1 << 21,
  SAVE_VMX_PREEMPTION_TIMER:   1 << 22,
  CLEAR_BNDCFGS:               1 << 23,
  PT_CONCEAL_PIP:              1 << 24,
  CLEAR_IA32_RTIT_CTL:         1 << 25,
  CLEAR_IA32_LBR_CTL:          1 << 26,
  CLEAR_UINV:                  1 << 27,
  LOAD_CET_STATE:              1 << 28,
  LOAD_PKRS:                   1 << 29,
  SAVE_IA32_PERF_GLOBAL_CTRL:  1 << 30,
  ACTIVATE_SECONDARY:          0x8000_0000,
} as const;

// prettier-ignore
/** Secondary VM-exit controls (64 bits). */
export const SECONDARY_EXIT_CONTROL = {
  SAVE_IA32_FRED:              1n << 0n,
  LOAD_IA32_FRED:              1n << 1n,
  PREMATURELY_BUSY_SHADOW_STACK: 1n << 3n,
} as const;

// prettier-ignore
/** VM-entry controls. */
export const ENTRY_CONTROL = {
  LOAD_DEBUG_CONTROLS:         1 << 2,
  IA32E_MODE:                  1 << 9,
  SMM:                         1 << 10,
  DEACT_DUAL_MONITOR:          1 << 11,
  LOAD_IA32_PERF_GLOBAL_CTRL:  1 << 13,
  LOAD_IA32_PAT:               1 << 14,
  LOAD_IA32_EFER:              1 << 15,
  LOAD_BNDCFGS:                1 << 16,
  PT_CONCEAL_PIP:              1 << 17,
  LOAD_IA32_RTIT_CTL:          1 << 18,
  LOAD_UINV:                   1 << 19,
  LOAD_CET_STATE:              1 << 20,
  LOAD_IA32_LBR_CTL:           1 << 21,
  LOAD_PKRS:                   1 << 22,
  LOAD_IA32_FRED:              1 << 23,
} as const;

/** The names of the set bits of a control word, lowest first; a bit without a name prints as `bit N`. */
export function controlNames(table: Readonly<Record<string, number>>, value: number): string[] {
  const names: string[] = [];
  for (let bit = 0; bit < 32; bit++) {
    const mask = (1 << bit) >>> 0;
    if ((value & mask) === 0) continue;
    names.push(Object.keys(table).find((name) => table[name]! >>> 0 === mask) ?? `bit ${bit}`);
  }
  return names;
}
