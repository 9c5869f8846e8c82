/**
 * The MSRs that a pCPU has, one row each: value after reset, bits that WRMSR may set, and what makes a value invalid.
 *
 * Source: SDM, "Model-Specific Registers (MSRs)" and the chapters that define each register; abi/msrs.ts for indices.
 * Invariant: an index without a row does not exist: RDMSR and WRMSR of it raise #GP(0).
 * Not modelled: MTRRs, performance counters, LBRs, Processor Trace, SGX; MSRs
 * that alias a register (EFER, FS_BASE, GS_BASE, TSC, TSC_DEADLINE) and the local APIC's have no row: msrs.ts has them.
 */
import { APIC_BASE, CET, FEATURE_CONTROL, MCG_CAP, MSR, type MsrName } from '../../../abi/msrs.js';
import { U64_MAX } from '../../../abi/uint.js';
import { capabilityMsrs, type VmxCapabilities } from '../capabilities.js';

/** How an MSR behaves under RDMSR and WRMSR. */
export interface MsrDefinition {
  readonly index: number;
  readonly reset: bigint;
  /** Bits that may be 1; WRMSR raises #GP when a value has another. */
  readonly writable: bigint;
  readonly access: 'read-write' | 'read-only' | 'write-only';
  /** WRMSR raises #GP for a non-canonical value. */
  readonly canonical: boolean;
  /** Any further rule of the register. */
  readonly isValid: (value: bigint) => boolean;
}

const DEFAULTS: Omit<MsrDefinition, 'index'> = {
  reset: 0n,
  writable: U64_MAX,
  access: 'read-write',
  canonical: false,
  isValid: () => true,
};

type Row = { readonly msr: MsrName } & Partial<Omit<MsrDefinition, 'index'>>;

const IS_ZERO = (value: bigint): boolean => value === 0n;
const ALIGNED_4 = (value: bigint): boolean => (value & 3n) === 0n;

/** PAT holds one memory type a byte; 2, 3 and above 7 are reserved. */
function isPatValid(value: bigint): boolean {
  for (let entry = value; entry !== 0n; entry >>= 8n) {
    const type = entry & 0xffn;
    if (type > 7n || type === 2n || type === 3n) return false;
  }
  return true;
}

/** SUPPRESS and TRACKER exclude each other; bits 9:6 are reserved; the bitmap base must be canonical. */
function isCetValid(value: bigint): boolean {
  return (value & (CET.SUPPRESS | CET.TRACKER)) !== (CET.SUPPRESS | CET.TRACKER);
}

/** Supervisor state components: PT, PASID, CET_U, CET_S, HDC, UINTR, LBR, HWP. */
const XSS_BITS = 0x0001_fd00n;
/** IBRS, STIBP, SSBD, IPRED_DIS, RRSBA_DIS, PSFD, DDPD_U, BHI_DIS_S. */
const SPEC_CTRL_BITS = 0x5ffn;
/** Fast strings, thermal control, PMU and BTS bits, EIST, MONITOR, CPUID limit, xTPR, XD disable, turbo. */
const MISC_ENABLE_BITS = 0x44_00c5_1889n;
const CET_BITS = U64_MAX & ~CET.RESERVED;
const X2APIC_ON = APIC_BASE.ENABLE | APIC_BASE.X2APIC | 0xfee0_0000n;

// prettier-ignore
const ROWS: readonly Row[] = [
  { msr: 'IA32_APIC_BASE',                 reset: X2APIC_ON, writable: X2APIC_ON | APIC_BASE.BSP, isValid: (value) => (value & ~APIC_BASE.BSP) === X2APIC_ON },
  { msr: 'IA32_FEATURE_CONTROL',           reset: FEATURE_CONTROL.LOCK | FEATURE_CONTROL.VMX_OUTSIDE_SMX, access: 'read-only' },
  { msr: 'IA32_TSC_ADJUST',                },
  { msr: 'IA32_SPEC_CTRL',                 writable: SPEC_CTRL_BITS },
  { msr: 'IA32_PRED_CMD',                  writable: 0x81n, access: 'write-only' },
  { msr: 'IA32_FLUSH_CMD',                 writable: 0x1n, access: 'write-only' },
  { msr: 'IA32_BIOS_SIGN_ID',              },
  { msr: 'IA32_UMWAIT_CONTROL',            writable: 0xffff_fffdn },
  { msr: 'IA32_ARCH_CAPABILITIES',         access: 'read-only', reset: 0x2bn },
  { msr: 'IA32_TSX_CTRL',                  writable: 0x3n },
  // Bits 63:16 are not used, which is not reserved: VM entry and VM exit clear the upper half, and WRMSR may set it.
  { msr: 'IA32_SYSENTER_CS',               },
  { msr: 'IA32_SYSENTER_ESP',              canonical: true },
  { msr: 'IA32_SYSENTER_EIP',              canonical: true },
  { msr: 'IA32_MCG_CAP',                   access: 'read-only', reset: MCG_CAP.SER_P | BigInt(MCG_CAP.BANKS) },
  { msr: 'IA32_MCG_STATUS',                writable: 0xfn },
  { msr: 'IA32_MC0_CTL',                   },
  { msr: 'IA32_MC0_STATUS',                isValid: IS_ZERO },
  { msr: 'IA32_MC0_ADDR',                  isValid: IS_ZERO },
  { msr: 'IA32_MC0_MISC',                  isValid: IS_ZERO },
  { msr: 'IA32_MC1_CTL',                   },
  { msr: 'IA32_MC1_STATUS',                isValid: IS_ZERO },
  { msr: 'IA32_MC1_ADDR',                  isValid: IS_ZERO },
  { msr: 'IA32_MC1_MISC',                  isValid: IS_ZERO },
  { msr: 'IA32_MC2_CTL',                   },
  { msr: 'IA32_MC2_STATUS',                isValid: IS_ZERO },
  { msr: 'IA32_MC2_ADDR',                  isValid: IS_ZERO },
  { msr: 'IA32_MC2_MISC',                  isValid: IS_ZERO },
  { msr: 'IA32_MC3_CTL',                   },
  { msr: 'IA32_MC3_STATUS',                isValid: IS_ZERO },
  { msr: 'IA32_MC3_ADDR',                  isValid: IS_ZERO },
  { msr: 'IA32_MC3_MISC',                  isValid: IS_ZERO },
  { msr: 'IA32_MISC_ENABLE',               reset: 0x4_1801n, writable: MISC_ENABLE_BITS },
  { msr: 'IA32_XFD',                       writable: 0x4_0000n },
  { msr: 'IA32_XFD_ERR',                   writable: 0x4_0000n },
  { msr: 'IA32_PAT',                       reset: 0x0007_0406_0007_0406n, isValid: isPatValid },
  { msr: 'IA32_PERF_CAPABILITIES',         access: 'read-only' },
  { msr: 'IA32_FIXED_CTR_CTRL',            writable: 0xffffn },
  { msr: 'IA32_PERF_GLOBAL_STATUS',        access: 'read-only' },
  { msr: 'IA32_RTIT_CTL',                  writable: 0n },
  { msr: 'IA32_U_CET',                     writable: CET_BITS, canonical: true, isValid: isCetValid },
  { msr: 'IA32_S_CET',                     writable: CET_BITS, canonical: true, isValid: isCetValid },
  { msr: 'IA32_PL0_SSP',                   canonical: true, isValid: ALIGNED_4 },
  { msr: 'IA32_PL1_SSP',                   canonical: true, isValid: ALIGNED_4 },
  { msr: 'IA32_PL2_SSP',                   canonical: true, isValid: ALIGNED_4 },
  { msr: 'IA32_PL3_SSP',                   canonical: true, isValid: ALIGNED_4 },
  { msr: 'IA32_INTERRUPT_SSP_TABLE_ADDR',  canonical: true },
  { msr: 'IA32_PKRS',                      writable: 0xffff_ffffn },
  { msr: 'IA32_XSS',                       writable: XSS_BITS },
  { msr: 'IA32_STAR',                      },
  { msr: 'IA32_LSTAR',                     canonical: true },
  { msr: 'IA32_CSTAR',                     canonical: true },
  { msr: 'IA32_FMASK',                     writable: 0xffff_ffffn },
  { msr: 'IA32_KERNEL_GS_BASE',            canonical: true },
  { msr: 'IA32_TSC_AUX',                   writable: 0xffff_ffffn },
];

/** Every MSR that a processor with these capabilities has of its own. */
export function msrTable(capabilities: VmxCapabilities): readonly MsrDefinition[] {
  const modelSpecific: readonly Row[] = [
    { msr: 'IA32_DEBUGCTL', writable: capabilities.debugctl },
    { msr: 'IA32_PERF_GLOBAL_CTRL', writable: capabilities.perfGlobalCtrl },
  ];
  const own = [...ROWS, ...modelSpecific].map((row) => ({
    ...DEFAULTS,
    ...row,
    index: MSR[row.msr],
  }));
  const reported = [...capabilityMsrs(capabilities)].map(([index, reset]): MsrDefinition => ({
    ...DEFAULTS,
    index,
    reset,
    access: 'read-only',
  }));
  return [...own, ...reported];
}
