/**
 * What the second machine's VMX offers, read from the machine itself.
 *
 * Source: SDM, "VMX Capability Reporting Facility"; CPUID leaf 0x80000008 for the physical-address width.
 * Invariant: the inverse of capabilityMsrs() for all that those MSRs say.
 */
import { MSR } from '../../abi/msrs.js';
import { high32, low32 } from '../../abi/uint.js';
import {
  DEFAULT_CAPABILITIES,
  type AllowedBits,
  type VmxCapabilities,
} from '../vmx/capabilities.js';
import type { Answer } from './answers.js';
import { CAPABILITY_MSRS, type MonitorProgram } from './program.js';

const ADDRESS_SIZES_LEAF = 0x8000_0008;
const FEATURES_LEAF = 7;
/** CPUID leaf 7, ECX: bus-lock detection, and its bit in IA32_DEBUGCTL. */
const BUS_LOCK_DETECT = 1 << 24;
const DEBUGCTL_BLD = 4n;

/** The operations whose answers capabilitiesOf() reads. */
export function askCapabilities(program: MonitorProgram): MonitorProgram {
  return program
    .rdmsr(...CAPABILITY_MSRS)
    .cpuid(ADDRESS_SIZES_LEAF)
    .cpuid(FEATURES_LEAF);
}

/** The capabilities that a machine answered. */
export function capabilitiesOf(answers: readonly Answer[]): VmxCapabilities {
  const msrs = new Map(
    answers.flatMap((one) => (one.kind === 'msr' ? [[one.index, one.value ?? 0n] as const] : [])),
  );
  const [sizes, features] = answers.filter((one) => one.kind === 'cpuid');
  const hasBusLock = ((features?.values[2] ?? 0) & BUS_LOCK_DETECT) !== 0;
  const msr = (index: number): bigint => msrs.get(index) ?? 0n;
  const pair = (index: number): AllowedBits => ({
    allowed0: low32(msr(index)),
    allowed1: high32(msr(index)),
  });
  const misc = msr(MSR.IA32_VMX_MISC);
  const bits = (from: bigint, count: bigint): number =>
    low32((misc >> from) & ((1n << count) - 1n));
  return {
    revision: low32(msr(MSR.IA32_VMX_BASIC)) & 0x7fff_ffff,
    physicalAddressBits: (sizes?.values[0] ?? 0) & 0xff,
    pin: pair(MSR.IA32_VMX_TRUE_PINBASED_CTLS),
    primary: pair(MSR.IA32_VMX_TRUE_PROCBASED_CTLS),
    secondary: { allowed0: 0, allowed1: pair(MSR.IA32_VMX_PROCBASED_CTLS2).allowed1 },
    tertiary: 0n,
    exit: pair(MSR.IA32_VMX_TRUE_EXIT_CTLS),
    entry: pair(MSR.IA32_VMX_TRUE_ENTRY_CTLS),
    preemptionTimerShift: bits(0n, 5n),
    activityStates: (bits(6n, 3n) << 1) | 1,
    cr3Targets: bits(16n, 9n),
    writesExitInformation: bits(29n, 1n) === 1,
    zeroLengthInjection: bits(30n, 1n) === 1,
    freeErrorCodes: ((msr(MSR.IA32_VMX_BASIC) >> 56n) & 1n) === 1n,
    cr0Fixed0: msr(MSR.IA32_VMX_CR0_FIXED0),
    cr0Fixed1: msr(MSR.IA32_VMX_CR0_FIXED1),
    cr4Fixed0: msr(MSR.IA32_VMX_CR4_FIXED0),
    cr4Fixed1: msr(MSR.IA32_VMX_CR4_FIXED1),
    eptVpidCap: msr(MSR.IA32_VMX_EPT_VPID_CAP),
    vmFunctions: msr(MSR.IA32_VMX_VMFUNC),
    // No MSR says these two whole.
    perfGlobalCtrl: DEFAULT_CAPABILITIES.perfGlobalCtrl,
    debugctl: DEFAULT_CAPABILITIES.debugctl & ~(hasBusLock ? 0n : DEBUGCTL_BLD),
  };
}
