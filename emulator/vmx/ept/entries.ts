/**
 * The bits of EPT paging-structure entries, and which entries are misconfigured.
 *
 * Source: SDM, "The Extended Page Table Mechanism (EPT)" > "EPT Translation Mechanism", "EPT Misconfigurations".
 * Invariant: an entry with none of bits 2:0 set is not present, and nothing else in it matters.
 * Not modelled: 5-level EPT, mode-based execute control, supervisor shadow-stack pages, sub-page write permissions.
 */
import { LEVEL_BYTES, PTE, type Level } from '../../memory/page-table-entries.js';
import { EPT_VPID_CAP, type VmxCapabilities } from '../capabilities.js';

export const EPTE = {
  R: 0x1n,
  W: 0x2n,
  X: 0x4n,
  RWX: 0x7n,
  /** Bits 5:3 of a leaf: the memory type. */
  TYPE: 0x38n,
  WRITE_BACK: 6n << 3n,
  IGNORE_PAT: 0x40n,
  /** Bit 7 of a PDPTE or PDE: it maps a page. */
  PAGE: 0x80n,
  ACCESSED: 0x100n,
  DIRTY: 0x200n,
  ADDRESS: PTE.ADDRESS,
} as const;

/** Bits of the EPT pointer. */
export const EPTP = {
  WRITE_BACK: 6n,
  /** A walk of four levels, less one. */
  WALK_4: 3n << 3n,
  ACCESSED_DIRTY: 0x40n,
  ADDRESS: PTE.ADDRESS,
} as const;

/** What an EPT pointer of KVM's says beside the root: write-back, four levels, accessed and dirty flags. */
export const EPTP_BITS = EPTP.WRITE_BACK | EPTP.WALK_4 | EPTP.ACCESSED_DIRTY;

export const isPresent = (entry: bigint): boolean => (entry & EPTE.RWX) !== 0n;

/** Whether a present entry maps a page instead of naming a table. */
export function mapsPage(entry: bigint, level: Level): boolean {
  return level === 1 || ((level === 2 || level === 3) && (entry & EPTE.PAGE) !== 0n);
}

/** A rule of "EPT Misconfigurations", in the SDM's order. */
interface MisconfigurationRule {
  readonly rule: string;
  readonly breaks: (entry: bigint, level: Level, cpu: VmxCapabilities) => boolean;
}

const bitsBelow = (bit: number): bigint => (1n << BigInt(bit)) - 1n;

/** Address bits that are no part of a page's or a table's address. */
function lowAddressBits(entry: bigint, level: Level): bigint {
  return mapsPage(entry, level) ? (LEVEL_BYTES[level] - 1n) & ~0xfffn : 0n;
}

/** Bits that must be 0 where the entry names a table: 7:3 in a PML4E, 6:3 below it. */
const reservedInTable = (level: Level): bigint => (level === 4 ? 0xf8n : 0x78n);

function largePagesAt(level: Level, { eptVpidCap }: VmxCapabilities): boolean {
  if (level === 3) return (eptVpidCap & EPT_VPID_CAP.PAGE_1G) !== 0n;
  return level !== 2 || (eptVpidCap & EPT_VPID_CAP.PAGE_2M) !== 0n;
}

// prettier-ignore
export const MISCONFIGURATIONS: readonly MisconfigurationRule[] = [
  { rule: 'Bit 0 is clear and bit 1 is set: writes are allowed and reads are not',
    breaks: (entry) => (entry & EPTE.R) === 0n && (entry & EPTE.W) !== 0n },
  { rule: 'Bit 0 is clear and bit 2 is set, and the processor has no execute-only translations',
    breaks: (entry, _level, cpu) =>
      (entry & EPTE.R) === 0n && (entry & EPTE.X) !== 0n && (cpu.eptVpidCap & EPT_VPID_CAP.EXECUTE_ONLY) === 0n },
  { rule: 'A bit of the physical address beyond MAXPHYADDR is set',
    breaks: (entry, _level, cpu) => (entry & EPTE.ADDRESS & ~bitsBelow(cpu.physicalAddressBits)) !== 0n },
  { rule: 'Bit 7 of a PDPTE or PDE is set, and the processor has no pages of that size',
    breaks: (entry, level, cpu) => level !== 1 && level !== 4 && mapsPage(entry, level) && !largePagesAt(level, cpu) },
  { rule: 'A reserved bit of an entry that names a table is set',
    breaks: (entry, level) => !mapsPage(entry, level) && (entry & reservedInTable(level)) !== 0n },
  { rule: 'An address bit below the size of the page is set',
    breaks: (entry, level) => (entry & lowAddressBits(entry, level)) !== 0n },
  { rule: 'The memory type of a leaf is 2, 3 or 7',
    breaks: (entry, level) => mapsPage(entry, level) && [2n, 3n, 7n].includes((entry & EPTE.TYPE) >> 3n) },
];

/** The rule that a present entry breaks, or null. */
export function misconfiguration(entry: bigint, level: Level, cpu: VmxCapabilities): string | null {
  return MISCONFIGURATIONS.find(({ breaks }) => breaks(entry, level, cpu))?.rule ?? null;
}
