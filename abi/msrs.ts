/**
 * Model-specific registers by name and index.
 *
 * Source: SDM, "Model-Specific Registers (MSRs)", "VMX Capability Reporting Facility", "x2APIC Register Address
 * Space"; the names are the SDM's, a leading IA32_ where it has one.
 * Invariant: an index is an unsigned number; x2APIC registers have their own table in x2apic.ts.
 */

// prettier-ignore
export const MSR = {
  IA32_TIME_STAMP_COUNTER:          0x0000_0010,
  IA32_APIC_BASE:                   0x0000_001b,
  IA32_FEATURE_CONTROL:             0x0000_003a,
  IA32_TSC_ADJUST:                  0x0000_003b,
  IA32_SPEC_CTRL:                   0x0000_0048,
  IA32_PRED_CMD:                    0x0000_0049,
  IA32_BIOS_SIGN_ID:                0x0000_008b,
  IA32_SMM_MONITOR_CTL:             0x0000_009b,
  IA32_SMBASE:                      0x0000_009e,
  IA32_UMWAIT_CONTROL:              0x0000_00e1,
  IA32_MTRRCAP:                     0x0000_00fe,
  IA32_ARCH_CAPABILITIES:           0x0000_010a,
  IA32_FLUSH_CMD:                   0x0000_010b,
  IA32_TSX_CTRL:                    0x0000_0122,
  IA32_SYSENTER_CS:                 0x0000_0174,
  IA32_SYSENTER_ESP:                0x0000_0175,
  IA32_SYSENTER_EIP:                0x0000_0176,
  IA32_MCG_CAP:                     0x0000_0179,
  IA32_MCG_STATUS:                  0x0000_017a,
  IA32_MCG_CTL:                     0x0000_017b,
  IA32_MISC_ENABLE:                 0x0000_01a0,
  IA32_XFD:                         0x0000_01c4,
  IA32_XFD_ERR:                     0x0000_01c5,
  IA32_FRED_RSP0:                   0x0000_01cc,
  IA32_FRED_RSP1:                   0x0000_01cd,
  IA32_FRED_RSP2:                   0x0000_01ce,
  IA32_FRED_RSP3:                   0x0000_01cf,
  IA32_FRED_STKLVLS:                0x0000_01d0,
  IA32_FRED_SSP1:                   0x0000_01d1,
  IA32_FRED_SSP2:                   0x0000_01d2,
  IA32_FRED_SSP3:                   0x0000_01d3,
  IA32_FRED_CONFIG:                 0x0000_01d4,
  IA32_DEBUGCTL:                    0x0000_01d9,
  IA32_PAT:                         0x0000_0277,
  IA32_PERF_CAPABILITIES:           0x0000_0345,
  IA32_FIXED_CTR_CTRL:              0x0000_038d,
  IA32_PERF_GLOBAL_STATUS:          0x0000_038e,
  IA32_PERF_GLOBAL_CTRL:            0x0000_038f,
  IA32_PERF_GLOBAL_STATUS_RESET:    0x0000_0390,
  IA32_MC0_CTL:                     0x0000_0400,
  IA32_MC0_STATUS:                  0x0000_0401,
  IA32_MC0_ADDR:                    0x0000_0402,
  IA32_MC0_MISC:                    0x0000_0403,
  IA32_MC1_CTL:                     0x0000_0404,
  IA32_MC1_STATUS:                  0x0000_0405,
  IA32_MC1_ADDR:                    0x0000_0406,
  IA32_MC1_MISC:                    0x0000_0407,
  IA32_MC2_CTL:                     0x0000_0408,
  IA32_MC2_STATUS:                  0x0000_0409,
  IA32_MC2_ADDR:                    0x0000_040a,
  IA32_MC2_MISC:                    0x0000_040b,
  IA32_MC3_CTL:                     0x0000_040c,
  IA32_MC3_STATUS:                  0x0000_040d,
  IA32_MC3_ADDR:                    0x0000_040e,
  IA32_MC3_MISC:                    0x0000_040f,
  IA32_VMX_BASIC:                   0x0000_0480,
  IA32_VMX_PINBASED_CTLS:           0x0000_0481,
  IA32_VMX_PROCBASED_CTLS:          0x0000_0482,
  IA32_VMX_EXIT_CTLS:               0x0000_0483,
  IA32_VMX_ENTRY_CTLS:              0x0000_0484,
  IA32_VMX_MISC:                    0x0000_0485,
  IA32_VMX_CR0_FIXED0:              0x0000_0486,
  IA32_VMX_CR0_FIXED1:              0x0000_0487,
  IA32_VMX_CR4_FIXED0:              0x0000_0488,
  IA32_VMX_CR4_FIXED1:              0x0000_0489,
  IA32_VMX_VMCS_ENUM:               0x0000_048a,
  IA32_VMX_PROCBASED_CTLS2:         0x0000_048b,
  IA32_VMX_EPT_VPID_CAP:            0x0000_048c,
  IA32_VMX_TRUE_PINBASED_CTLS:      0x0000_048d,
  IA32_VMX_TRUE_PROCBASED_CTLS:     0x0000_048e,
  IA32_VMX_TRUE_EXIT_CTLS:          0x0000_048f,
  IA32_VMX_TRUE_ENTRY_CTLS:         0x0000_0490,
  IA32_VMX_VMFUNC:                  0x0000_0491,
  IA32_VMX_PROCBASED_CTLS3:         0x0000_0492,
  IA32_VMX_EXIT_CTLS2:              0x0000_0493,
  IA32_RTIT_CTL:                    0x0000_0570,
  IA32_U_CET:                       0x0000_06a0,
  IA32_S_CET:                       0x0000_06a2,
  IA32_PL0_SSP:                     0x0000_06a4,
  IA32_PL1_SSP:                     0x0000_06a5,
  IA32_PL2_SSP:                     0x0000_06a6,
  IA32_PL3_SSP:                     0x0000_06a7,
  IA32_INTERRUPT_SSP_TABLE_ADDR:    0x0000_06a8,
  IA32_TSC_DEADLINE:                0x0000_06e0,
  IA32_PKRS:                        0x0000_06e1,
  IA32_BNDCFGS:                     0x0000_0d90,
  IA32_XSS:                         0x0000_0da0,
  IA32_LBR_CTL:                     0x0000_14ce,
  IA32_EFER:                        0xc000_0080,
  IA32_STAR:                        0xc000_0081,
  IA32_LSTAR:                       0xc000_0082,
  IA32_CSTAR:                       0xc000_0083,
  IA32_FMASK:                       0xc000_0084,
  IA32_FS_BASE:                     0xc000_0100,
  IA32_GS_BASE:                     0xc000_0101,
  IA32_KERNEL_GS_BASE:              0xc000_0102,
  IA32_TSC_AUX:                     0xc000_0103,
} as const;

/** The name of an MSR in the table. */
export type MsrName = keyof typeof MSR;

const NAME_BY_INDEX: ReadonlyMap<number, MsrName> = new Map(
  (Object.entries(MSR) as [MsrName, number][]).map(([name, index]) => [index, name]),
);

/** The name of an MSR index, undefined for one that is not in the table. */
export function msrName(index: number): MsrName | undefined {
  return NAME_BY_INDEX.get(index >>> 0);
}

// prettier-ignore
/** Bits of IA32_EFER. */
export const EFER = {
  SCE: 1n << 0n, LME: 1n << 8n, LMA: 1n << 10n, NXE: 1n << 11n,
  RESERVED: ~0xd01n & 0xffff_ffff_ffff_ffffn,
} as const;

// prettier-ignore
/** Bits of IA32_FEATURE_CONTROL. */
export const FEATURE_CONTROL = {
  LOCK: 1n << 0n, VMX_INSIDE_SMX: 1n << 1n, VMX_OUTSIDE_SMX: 1n << 2n,
} as const;

// prettier-ignore
/** Bits of IA32_APIC_BASE. */
export const APIC_BASE = {
  BSP: 1n << 8n, X2APIC: 1n << 10n, ENABLE: 1n << 11n,
} as const;

/** Bits of IA32_MCG_STATUS. */
export const MCG_STATUS = { RIPV: 1n << 0n, EIPV: 1n << 1n, MCIP: 1n << 2n } as const;

/** IA32_MCG_CAP of the processor that is modelled: its number of banks, and software error recovery. */
export const MCG_CAP = { BANKS: 4, SER_P: 1n << 24n } as const;

// prettier-ignore
/** Bits of IA32_MCi_STATUS; S and AR are there with MCG_SER_P. */
export const MCI_STATUS = {
  VAL: 1n << 63n, OVER: 1n << 62n, UC: 1n << 61n, EN: 1n << 60n, MISCV: 1n << 59n, ADDRV: 1n << 58n, PCC: 1n << 57n,
  S: 1n << 56n, AR: 1n << 55n,
} as const;

/** The MSRs of a machine-check bank. */
export function mcBank(bank: number): { readonly status: number; readonly address: number } {
  return { status: MSR.IA32_MC0_STATUS + 4 * bank, address: MSR.IA32_MC0_ADDR + 4 * bank };
}

// prettier-ignore
/** Bits of IA32_S_CET and IA32_U_CET. */
export const CET = {
  SH_STK_EN: 1n << 0n, WR_SHSTK_EN: 1n << 1n, ENDBR_EN: 1n << 2n, LEG_IW_EN: 1n << 3n, NO_TRACK_EN: 1n << 4n,
  SUPPRESS_DIS: 1n << 5n, RESERVED: 0x3c0n, SUPPRESS: 1n << 10n, TRACKER: 1n << 11n,
} as const;

/** MSRs that hold guest values from VM exit on and that a payload must not touch (CONTRACT). */
export const GUEST_OWNED_MSRS: readonly MsrName[] = [
  'IA32_KERNEL_GS_BASE',
  'IA32_STAR',
  'IA32_LSTAR',
  'IA32_CSTAR',
  'IA32_FMASK',
  'IA32_TSC_AUX',
  'IA32_XSS',
  'IA32_SPEC_CTRL',
  'IA32_U_CET',
  'IA32_PL0_SSP',
  'IA32_PL1_SSP',
  'IA32_PL2_SSP',
  'IA32_PL3_SSP',
];
