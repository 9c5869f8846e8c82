/**
 * WRMSR and RDMSR of the processor's own registers: a legal value, values that raise #GP, and what is there then.
 *
 * Source: SDM, "WRMSR—Write to Model Specific Register", "Model-Specific Registers (MSRs)", "Control-flow Enforcement
 * Technology Details", "Extended Feature Enable Register".
 * Invariant: a case leaves a value with which the monitor goes on.
 * Not here: registers that the second machine has not, IA32_DEBUGCTL, IA32_PERF_GLOBAL_CTRL and IA32_PKRS among them; the
 * what the bits of IA32_SYSENTER_CS that the SDM calls not used read as.
 */
import { APIC_BASE, CET, EFER, MSR, type MsrName } from '../../abi/msrs.js';
import { u64 } from '../../abi/uint.js';
import type { ApicCase, ApicStep } from './local-apic-cases.js';

const write = (index: number, value: bigint): ApicStep => ({ kind: 'write', index, value });
const read = (index: number): ApicStep => ({ kind: 'read', index });

/** Writes a legal value, tries others behind it, and ends with `left`. */
function tried(name: MsrName, legal: bigint, others: readonly bigint[], left: bigint): ApicCase[] {
  const index = MSR[name];
  return others.map((value) => ({
    title: `WRMSR ${name} = ${value.toString(16)}`,
    steps: [write(index, legal), read(index), write(index, value), read(index), write(index, left)],
  }));
}

const NON_CANONICAL = [0x8000_0000_0000n, 0xffff_7fff_ffff_fffcn, 1n << 63n] as const;
const CANONICAL = [0x7fff_ffff_fffcn, 0xffff_8000_0000_0000n] as const;
const ADDRESSES = [...NON_CANONICAL, ...CANONICAL] as const;
const MISALIGNED = [1n, 2n, 3n, 4n] as const;
const WIDE = [0xffff_ffffn, 1n << 32n, 1n << 63n] as const;
const LINEAR = 0x1234_5678n;
const PAT_RESET = 0x0007_0406_0007_0406n;
const EFER_HERE = EFER.LMA | EFER.LME | EFER.SCE | EFER.NXE;
const SHADOW_POINTERS = ['IA32_PL0_SSP', 'IA32_PL1_SSP', 'IA32_PL2_SSP', 'IA32_PL3_SSP'] as const;
const BASES = [
  'IA32_LSTAR',
  'IA32_CSTAR',
  'IA32_KERNEL_GS_BASE',
  'IA32_FS_BASE',
  'IA32_GS_BASE',
  'IA32_SYSENTER_ESP',
  'IA32_SYSENTER_EIP',
  'IA32_INTERRUPT_SSP_TABLE_ADDR',
] as const;

const PAT_VALUES = Array.from({ length: 8 }, (_, byte) =>
  [0n, 1n, 2n, 3n, 4n, 5n, 6n, 7n, 8n, 0x80n].map((type) => type << u64(8 * byte)),
).flat();
const CET_VALUES = [
  ...Array.from({ length: 12 }, (_, bit) => 1n << u64(bit)),
  CET.SUPPRESS | CET.TRACKER,
  ...ADDRESSES.map((address) => address & ~0xfffn),
];
const EFER_VALUES = [
  ...Array.from({ length: 64 }, (_, bit) => EFER_HERE ^ (1n << u64(bit))),
  EFER_HERE & ~(EFER.LMA | EFER.LME),
];

/** Every case. */
export const MSR_CASES: readonly ApicCase[] = [
  ...BASES.flatMap((name) => tried(name, LINEAR, ADDRESSES, 0n)),
  ...SHADOW_POINTERS.flatMap((name) => tried(name, LINEAR, [...ADDRESSES, ...MISALIGNED], 0n)),
  ...(['IA32_S_CET', 'IA32_U_CET'] as const).flatMap((name) => tried(name, 3n, CET_VALUES, 0n)),
  ...tried('IA32_PAT', 0x0606_0606_0606_0606n, PAT_VALUES, PAT_RESET),
  ...tried('IA32_EFER', EFER_HERE, EFER_VALUES, EFER_HERE),
  ...(['IA32_FMASK', 'IA32_TSC_AUX', 'IA32_STAR'] as const).flatMap((name) =>
    tried(name, 0x10n, WIDE, 0n),
  ),
  ...tried('IA32_SYSENTER_CS', 0x10n, [0xffffn], 0n),
  ...[1n << 16n, 1n << 32n, 1n << 63n].map((unused) => ({
    title: `WRMSR IA32_SYSENTER_CS takes bits that are not used: ${unused.toString(16)}`,
    steps: [write(MSR.IA32_SYSENTER_CS, unused), write(MSR.IA32_SYSENTER_CS, 0n)],
  })),
  {
    title: 'IA32_FEATURE_CONTROL is locked',
    steps: [write(MSR.IA32_FEATURE_CONTROL, 0n), read(MSR.IA32_FEATURE_CONTROL)],
  },
  {
    title: 'x2APIC mode cannot be left for xAPIC mode, and IA32_APIC_BASE has reserved bits',
    steps: [
      ...[APIC_BASE.X2APIC, 1n, 1n << 9n, 1n << 52n].map((bits) =>
        write(MSR.IA32_APIC_BASE, (0xfee0_0000n | APIC_BASE.ENABLE | APIC_BASE.X2APIC) ^ bits),
      ),
    ],
  },
];
