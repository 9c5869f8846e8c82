/**
 * The code of an entry: one range of addresses, or a list of them.
 *
 * Source: DWARF 5, "Code Addresses and Ranges", "Non-Contiguous Address Ranges", "Range List Tables"; DWARF 4, "Range
 * Lists", for .debug_ranges.
 */
import type { AddressRange } from '../image.js';
import { DW_AT } from './constants.js';
import type { DebugInfo } from './debug-info.js';
import type { Entry } from './entry.js';
import { refuseDwarf } from './errors.js';

/** A half-open range as numbers; DWARF of a payload stays below 2^53. */
export interface CodeRange {
  readonly start: number;
  readonly end: number;
}

// prettier-ignore
const DW_RLE = {
  end_of_list: 0, base_addressx: 1, startx_endx: 2, startx_length: 3, offset_pair: 4, base_address: 5, start_end: 6,
  start_length: 7,
} as const;

/** The ranges of an entry's code; none for a declaration. @throws DwarfError. */
export function rangesOf(info: DebugInfo, entry: Entry): CodeRange[] {
  const low = info.address(entry, DW_AT.low_pc);
  const high = entry.attribute(DW_AT.high_pc);
  if (low !== undefined && high !== undefined) {
    const isLength = high.kind === 'constant' || high.kind === 'offset';
    const end = isLength
      ? low + (info.number(entry, DW_AT.high_pc) ?? 0)
      : (info.address(entry, DW_AT.high_pc) ?? 0);
    return end > low ? [{ start: low, end }] : [];
  }
  const ranges = entry.attribute(DW_AT.ranges);
  if (ranges === undefined) return [];
  const isNew = entry.unit.version >= 5;
  if (ranges.kind === 'listIndex') {
    const { unit } = entry;
    const base = unit.bases.rangeLists;
    const at = base + ranges.value * unit.offsetBytes;
    const offset = info.section('.debug_rnglists', at).unsigned(unit.offsetBytes);
    return readRangeList(info, entry, base + offset);
  }
  const offset = info.number(entry, DW_AT.ranges);
  if (offset === undefined) refuseDwarf('BAD_FORM', 'ranges without offset', info.where(entry));
  return isNew ? readRangeList(info, entry, offset) : readOldRanges(info, entry, offset);
}

/** The same with bigint addresses. */
export function addressRangesOf(info: DebugInfo, entry: Entry): AddressRange[] {
  return rangesOf(info, entry).map(({ start, end }) => {
    return { start: BigInt(start), end: BigInt(end) };
  });
}

function readRangeList(info: DebugInfo, { unit }: Entry, offset: number): CodeRange[] {
  const cursor = info.section('.debug_rnglists', offset);
  const address = (): number => cursor.unsigned(unit.addressBytes);
  const indexed = (): number => info.addressAt(unit, cursor.index());
  const ranges: CodeRange[] = [];
  const add = (start: number, end: number): void => {
    if (end > start) ranges.push({ start, end });
  };
  let base = unit.bases.lowPc;
  for (;;) {
    info.budget.spend(1);
    const at = cursor.offset;
    // prettier-ignore
    switch (cursor.u8()) {
      case DW_RLE.end_of_list: return ranges;
      case DW_RLE.base_addressx: base = indexed(); break;
      case DW_RLE.startx_endx: add(indexed(), indexed()); break;
      case DW_RLE.startx_length: { const start = indexed(); add(start, start + cursor.index()); break; }
      case DW_RLE.offset_pair: { const start = base + cursor.index(); add(start, base + cursor.index()); break; }
      case DW_RLE.base_address: base = address(); break;
      case DW_RLE.start_end: add(address(), address()); break;
      case DW_RLE.start_length: { const start = address(); add(start, start + cursor.index()); break; }
      default: refuseDwarf('BAD_LIST', 'an unknown range entry', { section: cursor.section, offset: at });
    }
  }
}

function readOldRanges(info: DebugInfo, { unit }: Entry, offset: number): CodeRange[] {
  const cursor = info.section('.debug_ranges', offset);
  const ranges: CodeRange[] = [];
  let base = unit.bases.lowPc;
  const isBase = (low: bigint): boolean =>
    low === (unit.addressBytes === 8 ? (1n << 64n) - 1n : 0xffff_ffffn);
  for (;;) {
    info.budget.spend(1);
    const low = unit.addressBytes === 8 ? cursor.u64() : BigInt(cursor.u32());
    const high = cursor.unsigned(unit.addressBytes);
    if (isBase(low)) {
      base = high;
      continue;
    }
    if (low === 0n && high === 0) return ranges;
    cursor.offset -= 2 * unit.addressBytes;
    const start = base + cursor.unsigned(unit.addressBytes);
    cursor.skip(unit.addressBytes);
    if (base + high > start) ranges.push({ start, end: base + high });
  }
}

/** Whether an address is in one of the ranges. */
export function isInside(ranges: readonly CodeRange[], address: number): boolean {
  return ranges.some(({ start, end }) => address >= start && address < end);
}
