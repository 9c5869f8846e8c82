/**
 * Page tables in physical memory: identity-mapped ones made for a payload, and the walk that the CPU would do.
 *
 * Source: SDM, "4-Level Paging and 5-Level Paging", "Access Rights", "Shadow-Stack Pages" (leaf R/W = 0 and D = 1, R/W = 1 above).
 * Invariant: a built table maps linear = physical, supervisor-only, each page with the rights asked for and no other page.
 * DEVIATION: the walk assumes CR0.WP = 1, EFER.NXE = 1 and leaves accessed and dirty bits alone.
 * Not modelled: user-mode rights (SMEP, SMAP), PCIDs, protection keys, 5-level paging.
 */
import { hex, isCanonical } from '../../abi/uint.js';
import { DEFAULT_PHYSICAL_BITS, LEVEL_BYTES, PageTableError, PTE } from './page-table-entries.js';
import { hasReservedBit, indexOf, isLeaf, pageAddress } from './page-table-entries.js';
import type { Level } from './page-table-entries.js';
import { PAGE_SIZE } from './physical-memory.js';
import type { PhysicalBytes } from './physical-memory.js';

export { PageTableError } from './page-table-entries.js';
export { leafMappings, tablePages } from './page-table-scan.js';
export type { LeafMapping } from './page-table-scan.js';

/** Whole pages to be mapped at their physical addresses. */
export interface IdentityRange {
  readonly base: bigint;
  readonly sizeBytes: number;
  readonly writable: boolean;
  readonly executable: boolean;
  /** Readable by everyone, writable by CALL and shadow-stack instructions alone. */
  readonly shadowStack?: boolean;
}

/** Where a walk ended; on a fault `level` is that of the entry at fault. */
export type WalkResult =
  | {
      readonly kind: 'mapped';
      readonly physical: bigint;
      readonly writable: boolean;
      readonly executable: boolean;
      readonly shadowStack: boolean;
      /** Level of the leaf: 1 for 4 KiB, 2 for 2 MiB, 3 for 1 GiB. */
      readonly level: 1 | 2 | 3;
    }
  | { readonly kind: 'absent'; readonly reason: WalkFault; readonly level: Level };

/** Why a linear address is not mapped. */
export type WalkFault = 'not-canonical' | 'not-present' | 'reserved-bit' | 'table-outside-memory';

/**
 * Builds tables that map `ranges` and nothing else; gives back the value for CR3.
 *
 * `allocatePage` gives the address of a free page for each table; it is cleared here.
 * @throws PageTableError
 */
export function buildIdentityTables(
  memory: PhysicalBytes,
  ranges: readonly IdentityRange[],
  allocatePage: () => bigint,
): bigint {
  checkRanges(ranges);
  const newTable = (): bigint => {
    const table = allocatePage();
    memory.fill(table, PAGE_SIZE, 0);
    return table;
  };
  const cr3 = newTable();
  for (const range of ranges) {
    for (let at = 0; at < range.sizeBytes; at += PAGE_SIZE) {
      const linear = range.base + BigInt(at);
      memory.writeU64(leafSlot(memory, cr3, linear, newTable), leafEntry(linear, range));
    }
  }
  return cr3;
}

function checkRanges(ranges: readonly IdentityRange[]): void {
  const page = BigInt(PAGE_SIZE);
  let end = 0n;
  for (const range of [...ranges].sort((a, b) => (a.base < b.base ? -1 : 1))) {
    const at = `range at ${hex(range.base)}`;
    if (range.base % page !== 0n || range.sizeBytes % PAGE_SIZE !== 0 || range.sizeBytes <= 0) {
      throw new PageTableError('PAGE_TABLE_UNALIGNED', `${at} is not whole pages`);
    }
    if (range.base < end) {
      throw new PageTableError('PAGE_TABLE_OVERLAP', `${at} overlaps the range before it`);
    }
    if (range.writable && (range.executable || range.shadowStack === true)) {
      throw new PageTableError(
        'PAGE_TABLE_W_AND_X',
        `${at} is writable and executable or shadow stack`,
      );
    }
    end = range.base + BigInt(range.sizeBytes);
    if (end > 1n << BigInt(DEFAULT_PHYSICAL_BITS)) {
      throw new PageTableError('PAGE_TABLE_ADDRESS_TOO_HIGH', `${at} ends at ${hex(end)}`);
    }
  }
}

/** The address of the page-table entry for `linear`, with the tables above it made as needed. */
function leafSlot(
  memory: PhysicalBytes,
  cr3: bigint,
  linear: bigint,
  newTable: () => bigint,
): bigint {
  let table = cr3;
  for (const level of [4, 3, 2] as const) {
    const slot = table + indexOf(linear, level) * 8n;
    const entry = memory.readU64(slot);
    if ((entry & PTE.P) !== 0n) {
      table = entry & PTE.ADDRESS;
      continue;
    }
    table = newTable();
    // Rights are taken away by the leaf alone, so one table can hold pages of every kind.
    memory.writeU64(slot, table | PTE.P | PTE.RW | PTE.A);
  }
  return table + indexOf(linear, 1) * 8n;
}

/** Accessed and dirty are set beforehand: then the CPU never writes to the tables. Dirty and read-only is a shadow stack. */
function leafEntry(linear: bigint, range: IdentityRange): bigint {
  const writable = range.writable ? PTE.RW | PTE.D : 0n;
  const shadowStack = range.shadowStack === true ? PTE.D : 0n;
  const noExecute = range.executable ? 0n : PTE.NX;
  return linear | PTE.P | PTE.A | writable | shadowStack | noExecute;
}

/** Translates `linear` as the CPU would for a supervisor access, with the rights that all levels leave it. */
export function walk(
  memory: PhysicalBytes,
  cr3: bigint,
  linear: bigint,
  physicalBits = DEFAULT_PHYSICAL_BITS,
): WalkResult {
  if (!isCanonical(linear)) return { kind: 'absent', reason: 'not-canonical', level: 4 };
  let table = cr3 & PTE.ADDRESS;
  let writable = true;
  let executable = true;
  for (const level of [4, 3, 2, 1] as const) {
    if (table + BigInt(PAGE_SIZE) > BigInt(memory.sizeBytes)) {
      return { kind: 'absent', reason: 'table-outside-memory', level };
    }
    const entry = memory.readU64(table + indexOf(linear, level) * 8n);
    if ((entry & PTE.P) === 0n) return { kind: 'absent', reason: 'not-present', level };
    if (hasReservedBit(entry, level, physicalBits)) {
      return { kind: 'absent', reason: 'reserved-bit', level };
    }
    executable &&= (entry & PTE.NX) === 0n;
    if (level !== 4 && isLeaf(entry, level)) {
      const isReadOnly = (entry & PTE.RW) === 0n;
      return {
        kind: 'mapped',
        physical: pageAddress(entry, level) | (linear & (LEVEL_BYTES[level] - 1n)),
        writable: writable && !isReadOnly,
        executable,
        shadowStack: writable && isReadOnly && (entry & PTE.D) !== 0n,
        level,
      };
    }
    writable &&= (entry & PTE.RW) !== 0n;
    table = entry & PTE.ADDRESS;
  }
  // Level 1 always is a leaf.
  return { kind: 'absent', reason: 'not-present', level: 1 };
}
