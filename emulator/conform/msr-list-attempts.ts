/**
 * Lists of MSRs that VM entry loads, each with one entry that it must refuse: first, and behind two that it loads.
 *
 * Source: SDM, "Loading MSRs" (VM entries): emulator/vmx/msr-area.ts, whose rows name an example each, and WRMSR's #GP.
 * Invariant: what a list loads before the bad entry leaves the monitor as it was.
 * Not here: the lists of VM exit, which are aborts.ts'.
 */
import { MSR } from '../../abi/msrs.js';
import { u64 } from '../../abi/uint.js';
import { VALID_VMCS_PAGES } from '../vmx/description.js';
import { MSR_LOAD_RULES, type MsrEntry } from '../vmx/msr-area.js';
import type { Attempt } from './entry-rows.js';

const LIST = VALID_VMCS_PAGES.spare;
const HARMLESS = { index: MSR.IA32_KERNEL_GS_BASE, reserved: 0, value: 0n };
const ENTRY_BYTES = 16;

/** An entry of a list with its value. */
export interface Loaded extends MsrEntry {
  readonly value: bigint;
}

/** Values that WRMSR refuses, by the rule of their register. */
// prettier-ignore
export const REFUSED_BY_WRMSR: readonly (readonly [rule: string, index: number, value: bigint])[] = [
  ['no such MSR',                                0x2d,                    0n],
  ['a read-only MSR',                            MSR.IA32_VMX_BASIC,      0n],
  ['IA32_LSTAR that is not canonical',           MSR.IA32_LSTAR,          0x8000_0000_0000n],
  ['IA32_KERNEL_GS_BASE that is not canonical',  MSR.IA32_KERNEL_GS_BASE, 0x8000_0000_0000n],
  ['IA32_SYSENTER_EIP that is not canonical',    MSR.IA32_SYSENTER_EIP,   0x8000_0000_0000n],
  ['IA32_PAT with memory type 2',                MSR.IA32_PAT,            2n],
  ['IA32_EFER with a reserved bit',              MSR.IA32_EFER,           0xd03n],
];

/** The lists, and one that is loaded whole. */
export function msrListAttempts(): Attempt[] {
  const bad = [
    ...MSR_LOAD_RULES.map(({ rule, example }) => [rule, { ...example, value: 0n }] as const),
    ...REFUSED_BY_WRMSR.map(
      ([what, index, value]) =>
        [
          `an entry whose WRMSR would raise #GP must not be loaded: ${what}`,
          { index, reserved: 0, value },
        ] as const,
    ),
  ];
  return [
    attempt('three entries are loaded', [HARMLESS, HARMLESS, HARMLESS]),
    ...bad.flatMap(([rule, entry]) => [
      attempt(`entry 1: ${rule}`, [entry, HARMLESS, HARMLESS]),
      attempt(`entry 3: ${rule}`, [HARMLESS, HARMLESS, entry]),
    ]),
  ];
}

function attempt(title: string, list: readonly Loaded[]): Attempt {
  return {
    title: `VM-entry MSR-load list, ${title}`,
    overrides: { VM_ENTRY_MSR_LOAD_ADDR: LIST, VM_ENTRY_MSR_LOAD_COUNT: BigInt(list.length) },
    memory: listAt(LIST, list),
  };
}

/** A list of MSRs in memory. */
export function listAt(
  address: bigint,
  list: readonly Loaded[],
): (readonly [address: bigint, value: bigint])[] {
  return list.flatMap(({ index, reserved, value }, i) => {
    const at = address + u64(i * ENTRY_BYTES);
    return [[at, (u64(reserved) << 32n) | u64(index)] as const, [at + 8n, value] as const];
  });
}
