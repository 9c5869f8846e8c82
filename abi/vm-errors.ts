/**
 * VM-instruction error numbers, VM-entry failure qualifications and VMX-abort indicators.
 *
 * Source: SDM, "VM Instruction Error Numbers", "VM-Entry Failures During or After Loading Guest State", "VMX Aborts";
 * names are Linux's (arch/x86/include/asm/vmx.h: enum vm_instruction_error_number, enum vm_entry_failure_code).
 * Invariant: 14, 21 and 27 are unused.
 */

// prettier-ignore
export const VMXERR = {
  VMXERR_VMCALL_IN_VMX_ROOT_OPERATION:                   1,
  VMXERR_VMCLEAR_INVALID_ADDRESS:                        2,
  VMXERR_VMCLEAR_VMXON_POINTER:                          3,
  VMXERR_VMLAUNCH_NONCLEAR_VMCS:                         4,
  VMXERR_VMRESUME_NONLAUNCHED_VMCS:                      5,
  VMXERR_VMRESUME_AFTER_VMXOFF:                          6,
  VMXERR_ENTRY_INVALID_CONTROL_FIELD:                    7,
  VMXERR_ENTRY_INVALID_HOST_STATE_FIELD:                 8,
  VMXERR_VMPTRLD_INVALID_ADDRESS:                        9,
  VMXERR_VMPTRLD_VMXON_POINTER:                         10,
  VMXERR_VMPTRLD_INCORRECT_VMCS_REVISION_ID:            11,
  VMXERR_UNSUPPORTED_VMCS_COMPONENT:                    12,
  VMXERR_VMWRITE_READ_ONLY_VMCS_COMPONENT:              13,
  VMXERR_VMXON_IN_VMX_ROOT_OPERATION:                   15,
  VMXERR_ENTRY_INVALID_EXECUTIVE_VMCS_POINTER:          16,
  VMXERR_ENTRY_NONLAUNCHED_EXECUTIVE_VMCS:              17,
  VMXERR_ENTRY_EXECUTIVE_VMCS_POINTER_NOT_VMXON_POINTER: 18,
  VMXERR_VMCALL_NONCLEAR_VMCS:                          19,
  VMXERR_VMCALL_INVALID_VM_EXIT_CONTROL_FIELDS:         20,
  VMXERR_VMCALL_INCORRECT_MSEG_REVISION_ID:             22,
  VMXERR_VMXOFF_UNDER_DUAL_MONITOR_TREATMENT_OF_SMIS_AND_SMM: 23,
  VMXERR_VMCALL_INVALID_SMM_MONITOR_FEATURES:           24,
  VMXERR_ENTRY_INVALID_VM_EXECUTION_CONTROL_FIELDS_IN_EXECUTIVE_VMCS: 25,
  VMXERR_ENTRY_EVENTS_BLOCKED_BY_MOV_SS:                26,
  VMXERR_INVALID_OPERAND_TO_INVEPT_INVVPID:             28,
} as const;

/** The name of a VM-instruction error. */
export type VmInstructionErrorName = keyof typeof VMXERR;
/** A VM-instruction error number that the SDM defines. */
export type VmInstructionError = (typeof VMXERR)[VmInstructionErrorName];

/** The name of a VM-instruction error number, undefined for an unused one. */
export function vmInstructionErrorName(number: number): VmInstructionErrorName | undefined {
  return (Object.keys(VMXERR) as VmInstructionErrorName[]).find((name) => VMXERR[name] === number);
}

// prettier-ignore
/** Exit qualification of a VM-entry failure with basic reason EXIT_REASON_INVALID_STATE. */
export const ENTRY_FAIL = {
  ENTRY_FAIL_DEFAULT:        0,
  ENTRY_FAIL_PDPTE:          2,
  ENTRY_FAIL_NMI:            3,
  ENTRY_FAIL_VMCS_LINK_PTR:  4,
} as const;

// prettier-ignore
/** VMX-abort indicators, stored at offset 4 of the VMCS region; the names are ours, the SDM only numbers them. */
export const VMX_ABORT = {
  SAVING_GUEST_MSRS:      1,
  HOST_PDPTES:            2,
  CORRUPT_VMCS:           3,
  LOADING_HOST_MSRS:      4,
  MACHINE_CHECK:          5,
  HOST_NOT_64_BIT:        6,
} as const;

/** The name of a VMX-abort cause. */
export type VmxAbortName = keyof typeof VMX_ABORT;
/** A VMX-abort indicator. */
export type VmxAbortCode = (typeof VMX_ABORT)[VmxAbortName];
