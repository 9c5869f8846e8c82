/**
 * What this processor's VMX offers: the capability MSRs, modelled as a recent server part.
 *
 * Source: SDM, "VMX Capability Reporting Facility"; Linux arch/x86/include/asm/vmx.h (always-on bits).
 * Invariant: every check of VM entry and of VMXON asks this object and nothing else.
 * Not modelled: 5-level paging, MPX, Intel PT, LBR, user interrupts, FRED, SGX, TSX, dual-monitor treatment. Writing VM-exit
 * information fields (IA32_VMX_MISC bit 29) and free choice of error codes (IA32_VMX_BASIC bit 56) are reported as
 * absent: both are legal for a processor, and a payload that relies on either is better told.
 */
import { MSR } from '../../abi/msrs.js';
import { joinHalves } from '../../abi/uint.js';
import { VMCS_FIELDS, decodeEncoding } from '../../abi/vmcs-fields.js';
import {
  ENTRY_CONTROL,
  EXIT_CONTROL,
  PIN,
  PRIMARY,
  SECONDARY,
  TERTIARY,
} from '../../abi/vmx-controls.js';

/** Bits that must be 1 (`allowed0`) and bits that may be 1 (`allowed1`) in a 32-bit control field. */
export interface AllowedBits {
  readonly allowed0: number;
  readonly allowed1: number;
}

/** The VMX features of one processor model; all pCPUs of a machine have the same. */
export interface VmxCapabilities {
  /** VMCS revision identifier, 31 bits. */
  readonly revision: number;
  /** MAXPHYADDR. */
  readonly physicalAddressBits: number;
  readonly pin: AllowedBits;
  readonly primary: AllowedBits;
  readonly secondary: AllowedBits;
  /** Allowed-1 settings of the tertiary controls. */
  readonly tertiary: bigint;
  readonly exit: AllowedBits;
  readonly entry: AllowedBits;
  /** TSC bits that the VMX-preemption timer drops. */
  readonly preemptionTimerShift: number;
  /** Supported activity states: bit n for state n; state 0 always. */
  readonly activityStates: number;
  readonly cr3Targets: number;
  /** Whether VMWRITE may write VM-exit information fields (IA32_VMX_MISC bit 29). */
  readonly writesExitInformation: boolean;
  /** Whether injection accepts an instruction length of 0 (IA32_VMX_MISC bit 30). */
  readonly zeroLengthInjection: boolean;
  /** Whether any hardware exception may carry an error code or not (IA32_VMX_BASIC bit 56). */
  readonly freeErrorCodes: boolean;
  readonly cr0Fixed0: bigint;
  readonly cr0Fixed1: bigint;
  readonly cr4Fixed0: bigint;
  readonly cr4Fixed1: bigint;
  readonly eptVpidCap: bigint;
  readonly vmFunctions: bigint;
  /** Bits of IA32_PERF_GLOBAL_CTRL that are not reserved. */
  readonly perfGlobalCtrl: bigint;
  /** Bits of IA32_DEBUGCTL that are not reserved. */
  readonly debugctl: bigint;
}

// prettier-ignore
/** Bits of IA32_VMX_EPT_VPID_CAP. */
export const EPT_VPID_CAP = {
  EXECUTE_ONLY: 1n << 0n, PAGE_WALK_4: 1n << 6n, PAGE_WALK_5: 1n << 7n, UC: 1n << 8n, WB: 1n << 14n,
  PAGE_2M: 1n << 16n, PAGE_1G: 1n << 17n, INVEPT: 1n << 20n, ACCESSED_DIRTY: 1n << 21n,
  ADVANCED_VIOLATIONS: 1n << 22n, SUPERVISOR_SHADOW_STACK: 1n << 23n, INVEPT_SINGLE: 1n << 25n,
  INVEPT_ALL: 1n << 26n, INVVPID: 1n << 32n, INVVPID_ADDRESS: 1n << 40n, INVVPID_SINGLE: 1n << 41n,
  INVVPID_ALL: 1n << 42n, INVVPID_NON_GLOBAL: 1n << 43n,
} as const;

// prettier-ignore
/** Bits of CR0 and CR4 that the VMX rules name. */
export const CR = {
  CR0_PE: 0x1, CR0_ET: 0x10, CR0_NE: 0x20, CR0_WP: 0x1_0000, CR0_NW: 0x2000_0000, CR0_CD: 0x4000_0000,
  CR0_PG: 0x8000_0000,
  CR4_PAE: 0x20, CR4_VMXE: 0x2000, CR4_PCIDE: 0x2_0000, CR4_CET: 0x80_0000,
} as const;

const DEFAULT1 = {
  pin: 0x16,
  primary: 0x0400_6172,
  exit: 0x0003_6dfb,
  entry: 0x0000_11fb,
} as const;
/** Default1 bits of the MSRs without TRUE: they claim more bits as always 1. */
const UNTRUE_DEFAULT1 = {
  pin: 0x16,
  primary: 0x0401_e172,
  exit: 0x0003_6dff,
  entry: 0x0000_11ff,
} as const;

function allowed(allowed0: number, ...bits: number[]): AllowedBits {
  return { allowed0, allowed1: bits.reduce((all, bit) => all | bit, allowed0) >>> 0 };
}

/** The processor that the machines of this project have: features of a recent Xeon. */
export const DEFAULT_CAPABILITIES: VmxCapabilities = {
  revision: 0x0c7e_4b19,
  physicalAddressBits: 46,
  pin: allowed(DEFAULT1.pin, ...Object.values(PIN)),
  primary: allowed(DEFAULT1.primary, ...Object.values(PRIMARY)),
  secondary: allowed(
    0,
    SECONDARY.VIRTUALIZE_APIC_ACCESSES,
    SECONDARY.ENABLE_EPT,
    SECONDARY.DESC_EXITING,
    SECONDARY.ENABLE_RDTSCP,
    SECONDARY.VIRTUALIZE_X2APIC_MODE,
    SECONDARY.ENABLE_VPID,
    SECONDARY.WBINVD_EXITING,
    SECONDARY.UNRESTRICTED_GUEST,
    SECONDARY.APIC_REGISTER_VIRT,
    SECONDARY.VIRTUAL_INTR_DELIVERY,
    SECONDARY.PAUSE_LOOP_EXITING,
    SECONDARY.RDRAND_EXITING,
    SECONDARY.ENABLE_INVPCID,
    SECONDARY.ENABLE_VMFUNC,
    SECONDARY.SHADOW_VMCS,
    SECONDARY.RDSEED_EXITING,
    SECONDARY.ENABLE_PML,
    SECONDARY.EPT_VIOLATION_VE,
    SECONDARY.ENABLE_XSAVES,
    SECONDARY.MODE_BASED_EPT_EXEC,
    SECONDARY.TSC_SCALING,
    SECONDARY.ENABLE_USR_WAIT_PAUSE,
    SECONDARY.ENABLE_PCONFIG,
    SECONDARY.BUS_LOCK_DETECTION,
    SECONDARY.NOTIFY_VM_EXITING,
  ),
  tertiary: TERTIARY.IPI_VIRT,
  exit: allowed(
    DEFAULT1.exit,
    EXIT_CONTROL.SAVE_DEBUG_CONTROLS,
    EXIT_CONTROL.HOST_ADDR_SPACE_SIZE,
    EXIT_CONTROL.LOAD_IA32_PERF_GLOBAL_CTRL,
    EXIT_CONTROL.ACK_INTR_ON_EXIT,
    EXIT_CONTROL.SAVE_IA32_PAT,
    EXIT_CONTROL.LOAD_IA32_PAT,
    EXIT_CONTROL.SAVE_IA32_EFER,
    EXIT_CONTROL.LOAD_IA32_EFER,
    EXIT_CONTROL.SAVE_VMX_PREEMPTION_TIMER,
    EXIT_CONTROL.LOAD_CET_STATE,
    EXIT_CONTROL.LOAD_PKRS,
    EXIT_CONTROL.SAVE_IA32_PERF_GLOBAL_CTRL,
  ),
  entry: allowed(
    DEFAULT1.entry,
    ENTRY_CONTROL.LOAD_DEBUG_CONTROLS,
    ENTRY_CONTROL.IA32E_MODE,
    ENTRY_CONTROL.SMM,
    ENTRY_CONTROL.DEACT_DUAL_MONITOR,
    ENTRY_CONTROL.LOAD_IA32_PERF_GLOBAL_CTRL,
    ENTRY_CONTROL.LOAD_IA32_PAT,
    ENTRY_CONTROL.LOAD_IA32_EFER,
    ENTRY_CONTROL.LOAD_CET_STATE,
    ENTRY_CONTROL.LOAD_PKRS,
  ),
  preemptionTimerShift: 5,
  activityStates: 0b1111,
  cr3Targets: 4,
  writesExitInformation: false,
  zeroLengthInjection: true,
  freeErrorCodes: false,
  cr0Fixed0: 0x8000_0021n,
  cr0Fixed1: 0xffff_ffffn,
  cr4Fixed0: 0x2000n,
  // Everything up to supervisor protection keys but 5-level paging.
  cr4Fixed1: 0x01f7_6fffn,
  eptVpidCap:
    EPT_VPID_CAP.EXECUTE_ONLY |
    EPT_VPID_CAP.PAGE_WALK_4 |
    EPT_VPID_CAP.UC |
    EPT_VPID_CAP.WB |
    EPT_VPID_CAP.PAGE_2M |
    EPT_VPID_CAP.PAGE_1G |
    EPT_VPID_CAP.INVEPT |
    EPT_VPID_CAP.ACCESSED_DIRTY |
    EPT_VPID_CAP.ADVANCED_VIOLATIONS |
    EPT_VPID_CAP.SUPERVISOR_SHADOW_STACK |
    EPT_VPID_CAP.INVEPT_SINGLE |
    EPT_VPID_CAP.INVEPT_ALL |
    EPT_VPID_CAP.INVVPID |
    EPT_VPID_CAP.INVVPID_ADDRESS |
    EPT_VPID_CAP.INVVPID_SINGLE |
    EPT_VPID_CAP.INVVPID_ALL |
    EPT_VPID_CAP.INVVPID_NON_GLOBAL,
  vmFunctions: 1n,
  perfGlobalCtrl: 0x0001_000f_0000_00ffn,
  debugctl: 0xffc7n,
};

const REGION_BYTES = 4096;
const WRITE_BACK = 6n;

function basicMsr(capabilities: VmxCapabilities): bigint {
  return (
    BigInt(capabilities.revision) |
    (BigInt(REGION_BYTES) << 32n) |
    (WRITE_BACK << 50n) |
    (1n << 54n) | // information for INS and OUTS
    (1n << 55n) | // TRUE capability MSRs
    (capabilities.freeErrorCodes ? 1n << 56n : 0n)
  );
}

function miscMsr(capabilities: VmxCapabilities): bigint {
  return (
    BigInt(capabilities.preemptionTimerShift) |
    (1n << 5n) | // VM exit stores EFER.LMA into the "IA-32e mode guest" control
    (BigInt(capabilities.activityStates >> 1) << 6n) |
    (BigInt(capabilities.cr3Targets) << 16n) |
    (capabilities.writesExitInformation ? 1n << 29n : 0n) |
    (capabilities.zeroLengthInjection ? 1n << 30n : 0n)
  );
}

/** The capability MSRs by index, as RDMSR returns them. */
export function capabilityMsrs(capabilities: VmxCapabilities): ReadonlyMap<number, bigint> {
  const pair = (bits: AllowedBits, must = bits.allowed0): bigint => joinHalves(bits.allowed1, must);
  const highestIndex = Math.max(...VMCS_FIELDS.map((f) => decodeEncoding(f.encoding).index));
  return new Map<number, bigint>([
    [MSR.IA32_VMX_BASIC, basicMsr(capabilities)],
    [MSR.IA32_VMX_PINBASED_CTLS, pair(capabilities.pin, UNTRUE_DEFAULT1.pin)],
    [MSR.IA32_VMX_PROCBASED_CTLS, pair(capabilities.primary, UNTRUE_DEFAULT1.primary)],
    [MSR.IA32_VMX_EXIT_CTLS, pair(capabilities.exit, UNTRUE_DEFAULT1.exit)],
    [MSR.IA32_VMX_ENTRY_CTLS, pair(capabilities.entry, UNTRUE_DEFAULT1.entry)],
    [MSR.IA32_VMX_MISC, miscMsr(capabilities)],
    [MSR.IA32_VMX_CR0_FIXED0, capabilities.cr0Fixed0],
    [MSR.IA32_VMX_CR0_FIXED1, capabilities.cr0Fixed1],
    [MSR.IA32_VMX_CR4_FIXED0, capabilities.cr4Fixed0],
    [MSR.IA32_VMX_CR4_FIXED1, capabilities.cr4Fixed1],
    [MSR.IA32_VMX_VMCS_ENUM, BigInt(highestIndex) << 1n],
    [MSR.IA32_VMX_PROCBASED_CTLS2, pair(capabilities.secondary)],
    [MSR.IA32_VMX_EPT_VPID_CAP, capabilities.eptVpidCap],
    [MSR.IA32_VMX_TRUE_PINBASED_CTLS, pair(capabilities.pin)],
    [MSR.IA32_VMX_TRUE_PROCBASED_CTLS, pair(capabilities.primary)],
    [MSR.IA32_VMX_TRUE_EXIT_CTLS, pair(capabilities.exit)],
    [MSR.IA32_VMX_TRUE_ENTRY_CTLS, pair(capabilities.entry)],
    [MSR.IA32_VMX_VMFUNC, capabilities.vmFunctions],
    [MSR.IA32_VMX_PROCBASED_CTLS3, capabilities.tertiary],
  ]);
}

/** Whether `physical` lies within MAXPHYADDR. */
export function isPhysicalAddress(capabilities: VmxCapabilities, physical: bigint): boolean {
  return physical >> BigInt(capabilities.physicalAddressBits) === 0n;
}
