/**
 * Location lists: the expression that holds at an address.
 *
 * Source: DWARF 5, "Location Lists"; DWARF 4, "Location Lists", for .debug_loc.
 */
import type { AttributeValue } from './attributes.js';
import type { DebugInfo } from './debug-info.js';
import { refuseDwarf } from './errors.js';
import type { Unit } from './unit.js';

// prettier-ignore
const DW_LLE = {
  end_of_list: 0, base_addressx: 1, startx_endx: 2, startx_length: 3, offset_pair: 4, default_location: 5,
  base_address: 6, start_end: 7, start_length: 8, GNU_view_pair: 9,
} as const;

/** The expression of a location attribute at an address; undefined where the list has none. @throws DwarfError. */
export function expressionAt(
  info: DebugInfo,
  unit: Unit,
  value: AttributeValue,
  address: number,
): Uint8Array | undefined {
  if (value.kind === 'expression' || value.kind === 'block') return value.value;
  const base = unit.bases.locationLists;
  if (value.kind === 'listIndex') {
    const at = base + value.value * unit.offsetBytes;
    const offset = base + info.section('.debug_loclists', at).unsigned(unit.offsetBytes);
    return readList(info, unit, offset, address);
  }
  if (value.kind !== 'offset') return undefined;
  return unit.version >= 5
    ? readList(info, unit, value.value, address)
    : readOldList(info, unit, value.value, address);
}

function readList(
  info: DebugInfo,
  unit: Unit,
  offset: number,
  wanted: number,
): Uint8Array | undefined {
  const cursor = info.section('.debug_loclists', offset);
  const address = (): number => cursor.unsigned(unit.addressBytes);
  const indexed = (): number => info.addressAt(unit, cursor.index());
  let base = unit.bases.lowPc;
  let standard: Uint8Array | undefined;
  for (;;) {
    info.budget.spend(1);
    const at = cursor.offset;
    let start = 0;
    let end = 0;
    // prettier-ignore
    switch (cursor.u8()) {
      case DW_LLE.end_of_list: return standard;
      case DW_LLE.base_addressx: base = indexed(); continue;
      case DW_LLE.base_address: base = address(); continue;
      case DW_LLE.GNU_view_pair: cursor.skipLeb(); cursor.skipLeb(); continue;
      case DW_LLE.startx_endx: start = indexed(); end = indexed(); break;
      case DW_LLE.startx_length: start = indexed(); end = start + cursor.index(); break;
      case DW_LLE.offset_pair: start = base + cursor.index(); end = base + cursor.index(); break;
      case DW_LLE.default_location: standard = cursor.block(cursor.index()); continue;
      case DW_LLE.start_end: start = address(); end = address(); break;
      case DW_LLE.start_length: start = address(); end = start + cursor.index(); break;
      default: refuseDwarf('BAD_LIST', 'an unknown location entry', { section: cursor.section, offset: at });
    }
    const expression = cursor.block(cursor.index());
    if (wanted >= start && wanted < end) return expression;
  }
}

function readOldList(
  info: DebugInfo,
  unit: Unit,
  offset: number,
  wanted: number,
): Uint8Array | undefined {
  const cursor = info.section('.debug_loc', offset);
  const largest = unit.addressBytes === 8 ? (1n << 64n) - 1n : 0xffff_ffffn;
  let base = unit.bases.lowPc;
  for (;;) {
    info.budget.spend(1);
    const low = unit.addressBytes === 8 ? cursor.u64() : BigInt(cursor.u32());
    const high = cursor.unsigned(unit.addressBytes);
    if (low === largest) {
      base = high;
      continue;
    }
    if (low === 0n && high === 0) return undefined;
    const expression = cursor.block(cursor.u16());
    const from = BigInt(wanted - base);
    if (from >= low && from < BigInt(high)) return expression;
  }
}
