/**
 * The walk of the four paging levels for an address, entry by entry, with what owns the page at the end.
 *
 * Source: SDM, "4-Level Paging and 5-Level Paging", "Access Rights".
 * Invariant: the walk stops where the CPU would fault, and says why; its verdict is that of emulator/memory's walk().
 */
import { hex, isCanonical } from '../../../../abi/uint.js';
import {
  DEFAULT_PHYSICAL_BITS,
  hasReservedBit,
  indexOf,
  isLeaf,
  pageAddress,
  PTE,
} from '../../../memory/page-table-entries.js';
import type { Level } from '../../../memory/page-table-entries.js';
import { walk } from '../../../memory/page-tables.js';
import { PAGE_SIZE } from '../../../memory/physical-memory.js';
import type { PhysicalBytes } from '../../../memory/physical-memory.js';

/** Who owns a physical page, in words; null when nobody does. */
export type OwnerOf = (physical: bigint) => string | null;

const NAMES: Readonly<Record<Level, string>> = { 4: 'PML4E', 3: 'PDPTE', 2: 'PDE', 1: 'PTE' };
const BITS: readonly (readonly [bigint, string])[] = [
  [PTE.P, 'P'],
  [PTE.RW, 'RW'],
  [PTE.US, 'US'],
  [0x8n, 'PWT'],
  [0x10n, 'PCD'],
  [PTE.A, 'A'],
  [PTE.D, 'D'],
  [PTE.PS, 'PS'],
  [0x100n, 'G'],
  [PTE.NX, 'NX'],
];
const FAULTS = {
  'not-canonical': 'the address is not canonical: #GP(0)',
  'not-present': 'not present: #PF',
  'reserved-bit': 'a reserved bit is set: #PF',
  'table-outside-memory': 'the table lies outside memory',
} as const;

/** The lines of the view. */
export function pageView(
  memory: PhysicalBytes,
  cr3: bigint,
  linear: bigint,
  ownerOf: OwnerOf,
): readonly string[] {
  const lines = [`linear ${hex(linear)}  CR3 ${hex(cr3)}`];
  let table = cr3 & PTE.ADDRESS;
  if (isCanonical(linear)) {
    for (const level of [4, 3, 2, 1] as const) {
      if (table + BigInt(PAGE_SIZE) > BigInt(memory.sizeBytes)) break;
      const index = indexOf(linear, level);
      const entry = memory.readU64(table + index * 8n);
      const slot = `${NAMES[level]}[${index.toString()}]`.padEnd(11);
      lines.push(
        `  ${slot} at ${hex(table + index * 8n)}: ${hex(entry, 16)}  ${bitsOf(entry, level)}`,
      );
      const isEnd =
        (entry & PTE.P) === 0n ||
        hasReservedBit(entry, level, DEFAULT_PHYSICAL_BITS) ||
        isLeaf(entry, level);
      if (isEnd) break;
      table = pageAddress(entry, 1);
    }
  }
  return [...lines, ...verdict(memory, cr3, linear, ownerOf)];
}

function verdict(
  memory: PhysicalBytes,
  cr3: bigint,
  linear: bigint,
  ownerOf: OwnerOf,
): readonly string[] {
  const found = walk(memory, cr3, linear);
  if (found.kind === 'absent') {
    const where = found.reason === 'not-canonical' ? '' : `${NAMES[found.level]}: `;
    return [`not mapped: ${where}${FAULTS[found.reason]}`];
  }
  const rights = ['R', found.writable ? 'W' : '-', found.executable ? 'X' : '-'].join('');
  const size = { 1: '4 KiB', 2: '2 MiB', 3: '1 GiB' }[found.level];
  const shadow = found.shadowStack ? ', shadow stack' : '';
  const owner = ownerOf(found.physical) ?? 'nobody';
  return [`physical ${hex(found.physical)}  ${rights}${shadow}  ${size} page  owner: ${owner}`];
}

function bitsOf(entry: bigint, level: Level): string {
  const set = BITS.filter(([bit]) => (entry & bit) !== 0n && (bit !== PTE.PS || level !== 1));
  return set.map(([, name]) => name).join(' ');
}
