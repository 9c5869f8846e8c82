/**
 * The MSR areas of a VMCS: loading at VM entry and VM exit, storing at VM exit.
 *
 * Source: SDM, "Loading MSRs" (VM entries), "Saving MSRs", "Loading MSRs" (VM exits).
 * Invariant: entries are processed in order and processing stops at the first that is refused; those before it stay done.
 * Not modelled: the recommended maximum count of IA32_VMX_MISC, beyond which behaviour is undefined.
 */
import { MSR } from '../../abi/msrs.js';
import type { VmxPcpu } from './ports.js';

/** One 16-byte entry: bits 31:0 index, bits 63:32 reserved, then the value. */
export interface MsrEntry {
  readonly index: number;
  readonly reserved: number;
}

/** Why an entry is refused. */
export interface MsrRule {
  readonly rule: string;
  readonly refuses: (entry: MsrEntry) => boolean;
  /** An entry that this rule, and no earlier one, refuses. */
  readonly example: MsrEntry;
}

const isX2apic = (entry: MsrEntry): boolean => entry.index >>> 8 === 0x8;

/** Rules for entries that are loaded. */
export const MSR_LOAD_RULES: readonly MsrRule[] = [
  {
    rule: 'bits 63:32 of an entry must be 0',
    refuses: (entry) => entry.reserved !== 0,
    example: { index: MSR.IA32_KERNEL_GS_BASE, reserved: 1 },
  },
  {
    rule: 'IA32_FS_BASE must not be loaded',
    refuses: (entry) => entry.index === MSR.IA32_FS_BASE,
    example: { index: MSR.IA32_FS_BASE, reserved: 0 },
  },
  {
    rule: 'IA32_GS_BASE must not be loaded',
    refuses: (entry) => entry.index === MSR.IA32_GS_BASE,
    example: { index: MSR.IA32_GS_BASE, reserved: 0 },
  },
  {
    rule: 'an x2APIC register must not be loaded',
    refuses: isX2apic,
    example: { index: 0x830, reserved: 0 },
  },
  {
    rule: 'outside SMM, an MSR that can be written only in SMM must not be loaded',
    refuses: (entry) => entry.index === MSR.IA32_SMM_MONITOR_CTL,
    example: { index: MSR.IA32_SMM_MONITOR_CTL, reserved: 0 },
  },
  {
    rule: 'an MSR that cannot be loaded for model-specific reasons must not be loaded',
    refuses: (entry) => entry.index === 0x79 || entry.index === MSR.IA32_BIOS_SIGN_ID,
    example: { index: MSR.IA32_BIOS_SIGN_ID, reserved: 0 },
  },
];

/** Rules for entries that are stored. */
export const MSR_STORE_RULES: readonly MsrRule[] = [
  {
    rule: 'bits 63:32 of an entry must be 0',
    refuses: (entry) => entry.reserved !== 0,
    example: { index: MSR.IA32_KERNEL_GS_BASE, reserved: 1 },
  },
  {
    rule: 'an x2APIC register must not be stored',
    refuses: isX2apic,
    example: { index: 0x830, reserved: 0 },
  },
  {
    rule: 'outside SMM, IA32_SMBASE must not be stored',
    refuses: (entry) => entry.index === MSR.IA32_SMBASE,
    example: { index: MSR.IA32_SMBASE, reserved: 0 },
  },
];

const ENTRY_BYTES = 16n;

/** What became of an area: all of it done, or the 1-based number of the entry that was refused and why. */
export type MsrAreaResult =
  | { readonly kind: 'done' }
  | { readonly kind: 'refused'; readonly entry: number; readonly rule: string };

const DONE: MsrAreaResult = { kind: 'done' };

function refused(entry: number, rule: string): MsrAreaResult {
  return { kind: 'refused', entry, rule };
}

function forEachEntry(
  pcpu: VmxPcpu,
  base: bigint,
  count: number,
  rules: readonly MsrRule[],
  act: (entry: MsrEntry, valueAt: bigint) => boolean,
  denied: string,
): MsrAreaResult {
  for (let i = 0; i < count; i++) {
    const at = base + ENTRY_BYTES * BigInt(i);
    if (at + ENTRY_BYTES > BigInt(pcpu.memory.sizeBytes)) {
      return refused(i + 1, 'the machine has no memory at the entry');
    }
    const entry = { index: pcpu.memory.readU32(at), reserved: pcpu.memory.readU32(at + 4n) };
    const broken = rules.find((rule) => rule.refuses(entry));
    if (broken !== undefined) return refused(i + 1, broken.rule);
    if (!act(entry, at + 8n)) return refused(i + 1, denied);
  }
  return DONE;
}

/** Loads `count` entries at `base`. */
export function loadMsrArea(pcpu: VmxPcpu, base: bigint, count: number): MsrAreaResult {
  if (count === 0) return DONE;
  return forEachEntry(
    pcpu,
    base,
    count,
    MSR_LOAD_RULES,
    (entry, valueAt) => pcpu.msrs.write(entry.index, pcpu.memory.readU64(valueAt)),
    'an entry whose WRMSR would raise #GP must not be loaded',
  );
}

/** Stores `count` entries at `base`. */
export function storeMsrArea(pcpu: VmxPcpu, base: bigint, count: number): MsrAreaResult {
  if (count === 0) return DONE;
  return forEachEntry(
    pcpu,
    base,
    count,
    MSR_STORE_RULES,
    (entry, valueAt) => {
      const value = pcpu.msrs.read(entry.index);
      if (value === undefined) return false;
      pcpu.memory.writeU64(valueAt, value);
      return true;
    },
    'an entry whose RDMSR would raise #GP must not be stored',
  );
}
