/**
 * The bits of 4-level page-table entries and the geometry of the four levels.
 *
 * Source: SDM, "4-Level Paging and 5-Level Paging" (formats of CR3 and of the entries of each level).
 * Not modelled: 5-level paging, protection keys, PAT and PCD/PWT memory types.
 */
import { HarnessError } from '../../abi/errors.js';

export type PageTableErrorCode =
  | 'PAGE_TABLE_UNALIGNED'
  | 'PAGE_TABLE_OVERLAP'
  | 'PAGE_TABLE_W_AND_X'
  | 'PAGE_TABLE_ADDRESS_TOO_HIGH'
  | 'PAGE_TABLE_TOO_LARGE';
/** Ranges that no page tables can map, or tables that map too much. */
export class PageTableError extends HarnessError<PageTableErrorCode> {}

export const PTE = {
  P: 0x1n,
  RW: 0x2n,
  US: 0x4n,
  A: 0x20n,
  D: 0x40n,
  PS: 0x80n,
  NX: 1n << 63n,
  /** Bits 51:12, the address of the next table or of a 4 KiB page. */
  ADDRESS: 0x000f_ffff_ffff_f000n,
} as const;

/** 1 is the page table, 4 is the PML4. */
export type Level = 1 | 2 | 3 | 4;

export const ENTRIES = 512;

/** Bytes that one entry of each level maps. */
// prettier-ignore
export const LEVEL_BYTES = {
  1: 0x1000n, 2: 0x20_0000n, 3: 0x4000_0000n, 4: 0x80_0000_0000n,
} as const satisfies Record<Level, bigint>;

/** How wide physical addresses are; bits above, up to 51, are reserved in every entry. */
export const DEFAULT_PHYSICAL_BITS = 46;

/** The entry's index for a linear address. */
export function indexOf(linear: bigint, level: Level): bigint {
  return (linear / LEVEL_BYTES[level]) % 512n;
}

/** Whether the entry maps a page instead of naming a table. */
export function isLeaf(entry: bigint, level: Level): boolean {
  return level === 1 || ((level === 2 || level === 3) && (entry & PTE.PS) !== 0n);
}

/** The address of the page that a leaf maps: bits 51:12, 51:21 or 51:30. */
export function pageAddress(entry: bigint, level: Level): bigint {
  return entry & PTE.ADDRESS & ~(LEVEL_BYTES[level] - 1n);
}

/**
 * Whether a present entry has a reserved bit set: an address bit at or above MAXPHYADDR, PS in a PML4 entry, or in a
 * large page an address bit below its size (bit 12 is PAT there). With EFER.NXE set NX is never reserved.
 */
export function hasReservedBit(entry: bigint, level: Level, physicalBits: number): boolean {
  const beyond = PTE.ADDRESS & ~((1n << BigInt(physicalBits)) - 1n);
  if ((entry & beyond) !== 0n) return true;
  if (level === 4) return (entry & PTE.PS) !== 0n;
  if (level === 1 || !isLeaf(entry, level)) return false;
  const low = LEVEL_BYTES[level] - 1n;
  return (entry & PTE.ADDRESS & low & ~0x1000n) !== 0n;
}
