/**
 * Everything that a set of page tables maps, as runs, and the pages that the tables themselves occupy.
 *
 * Source: SDM, "4-Level Paging and 5-Level Paging". An entry that would fault (reserved bit, table outside memory) maps nothing.
 * Invariant: for every linear address, the runs and walk() say the same.
 */
import { hex, toIndex } from '../../abi/uint.js';
import {
  DEFAULT_PHYSICAL_BITS,
  ENTRIES,
  LEVEL_BYTES,
  PageTableError,
  PTE,
} from './page-table-entries.js';
import { hasReservedBit, isLeaf, pageAddress } from './page-table-entries.js';
import type { Level } from './page-table-entries.js';
import { PAGE_SIZE } from './physical-memory.js';
import type { PhysicalBytes } from './physical-memory.js';

/** A run of pages that are contiguous in both spaces and have the same rights. */
export interface LeafMapping {
  readonly linear: bigint;
  readonly physical: bigint;
  readonly sizeBytes: number;
  readonly writable: boolean;
  readonly executable: boolean;
  readonly shadowStack: boolean;
}

/** A run while it is being found. */
type GrowingMapping = Omit<LeafMapping, 'sizeBytes'> & { sizeBytes: number };

type Rights = Pick<LeafMapping, 'writable' | 'executable'>;

/** Tables that name each other could map the whole address space page by page: nobody waits for that. */
const MAX_STEPS = 1 << 20;
/** What looking through a table costs, in pages. */
const TABLE_STEPS = 64;

/** All mapped runs in linear order. @throws PageTableError PAGE_TABLE_TOO_LARGE beyond 2^20 pages or 2^14 tables. */
export function leafMappings(
  memory: PhysicalBytes,
  cr3: bigint,
  physicalBits = DEFAULT_PHYSICAL_BITS,
): readonly LeafMapping[] {
  const runs: GrowingMapping[] = [];
  let steps = 0;
  const count = (cost: number): void => {
    steps += cost;
    if (steps <= MAX_STEPS) return;
    throw new PageTableError('PAGE_TABLE_TOO_LARGE', `tables at ${hex(cr3)} map too much`);
  };
  const scan = (table: bigint, level: Level, base: bigint, above: Rights): void => {
    count(TABLE_STEPS);
    for (const { index, entry } of presentEntries(memory, table)) {
      if (hasReservedBit(entry, level, physicalBits)) continue;
      const linear = canonical(base + BigInt(index) * LEVEL_BYTES[level]);
      const isReadOnly = (entry & PTE.RW) === 0n;
      const rights = {
        writable: above.writable && !isReadOnly,
        executable: above.executable && (entry & PTE.NX) === 0n,
      };
      if (!isLeaf(entry, level)) {
        scan(entry & PTE.ADDRESS, below(level), linear, rights);
        continue;
      }
      count(1);
      append(runs, {
        linear,
        physical: pageAddress(entry, level),
        sizeBytes: toIndex(LEVEL_BYTES[level]),
        ...rights,
        shadowStack: above.writable && isReadOnly && (entry & PTE.D) !== 0n,
      });
    }
  };
  scan(cr3 & PTE.ADDRESS, 4, 0n, { writable: true, executable: true });
  return runs;
}

/** The pages that the tables reachable from CR3 occupy, ascending; a table outside memory is left out. */
export function tablePages(
  memory: PhysicalBytes,
  cr3: bigint,
  physicalBits = DEFAULT_PHYSICAL_BITS,
): readonly bigint[] {
  // One page may serve as a table of several levels, and is then scanned once as each.
  const seen = new Map<Level, Set<bigint>>(
    [4, 3, 2, 1].map((level) => [level as Level, new Set()]),
  );
  const scan = (table: bigint, level: Level): void => {
    if (!isInside(memory, table) || seen.get(level)!.has(table)) return;
    seen.get(level)!.add(table);
    if (level === 1) return;
    for (const { entry } of presentEntries(memory, table)) {
      if (isLeaf(entry, level) || hasReservedBit(entry, level, physicalBits)) continue;
      scan(entry & PTE.ADDRESS, below(level));
    }
  };
  scan(cr3 & PTE.ADDRESS, 4);
  const pages = new Set([...seen.values()].flatMap((tables) => [...tables]));
  return [...pages].sort((a, b) => (a < b ? -1 : 1));
}

/** One copy of the table, then a look at the low byte: most entries of most tables are not present. */
function* presentEntries(memory: PhysicalBytes, table: bigint) {
  if (!isInside(memory, table)) return;
  const bytes = memory.read(table, PAGE_SIZE);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  for (let index = 0; index < ENTRIES; index++) {
    if ((bytes[index * 8]! & 1) === 0) continue;
    yield { index, entry: view.getBigUint64(index * 8, true) };
  }
}

function isInside(memory: PhysicalBytes, table: bigint): boolean {
  return table + BigInt(PAGE_SIZE) <= BigInt(memory.sizeBytes);
}

function below(level: Level): Level {
  return (level - 1) as Level;
}

/** Bits 63:48 repeat bit 47. */
function canonical(linear: bigint): bigint {
  return linear >> 47n === 1n ? linear | 0xffff_0000_0000_0000n : linear;
}

function append(runs: GrowingMapping[], next: GrowingMapping): void {
  const last = runs.at(-1);
  if (
    last !== undefined &&
    last.linear + BigInt(last.sizeBytes) === next.linear &&
    last.physical + BigInt(last.sizeBytes) === next.physical &&
    last.writable === next.writable &&
    last.executable === next.executable &&
    last.shadowStack === next.shadowStack
  ) {
    last.sizeBytes += next.sizeBytes;
  } else {
    runs.push(next);
  }
}
