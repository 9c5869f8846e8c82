/**
 * Unit headers of .debug_info and .debug_types, and what a unit's root entry says of all its entries.
 *
 * Source: DWARF 5, "Unit Headers"; DWARF 4, "Unit Headers" and "Type Unit Header".
 * Not modelled: split units; a skeleton is a unit without children.
 */
import type { AbbreviationTable } from './abbreviations.js';
import { DW_UT } from './constants.js';
import { Cursor } from './cursor.js';
import { refuseDwarf } from './errors.js';

/** The section that a unit is in. */
export type UnitSection = '.debug_info' | '.debug_types';

/** The header of one unit; offsets are of its section. */
export interface UnitHeader {
  readonly section: UnitSection;
  readonly offset: number;
  readonly end: number;
  readonly version: number;
  readonly type: number;
  /** 4 or 8: bytes of an offset into another section. */
  readonly offsetBytes: number;
  readonly addressBytes: number;
  readonly abbreviationOffset: number;
  /** Where the root entry begins. */
  readonly entries: number;
  /** Of a type unit: its signature, and its type's offset in the unit. */
  readonly signature: bigint;
  readonly typeOffset: number;
}

/** A unit with its abbreviations and with what its root entry sets for the others. */
export interface Unit extends UnitHeader {
  readonly bytes: Uint8Array;
  readonly abbreviations: AbbreviationTable;
  /** Set from the root entry before anything else is read. */
  readonly bases: UnitBases;
}

/** Where this unit's part of the shared tables begins. */
export interface UnitBases {
  strings: number;
  addresses: number;
  rangeLists: number;
  locationLists: number;
  lowPc: number;
}

/** All unit headers of a section. @throws DwarfError BAD_UNIT, UNSUPPORTED_VERSION, TRUNCATED. */
export function readUnitHeaders(section: UnitSection, bytes: Uint8Array): UnitHeader[] {
  const headers: UnitHeader[] = [];
  for (let offset = 0; offset < bytes.length;) {
    const header = readUnitHeader(section, bytes, offset);
    headers.push(header);
    offset = header.end;
  }
  return headers;
}

function readUnitHeader(section: UnitSection, bytes: Uint8Array, offset: number): UnitHeader {
  const cursor = new Cursor(section, bytes, offset);
  const { length, offsetBytes } = readInitialLength(cursor);
  const end = cursor.offset + length;
  if (end > bytes.length) refuseDwarf('BAD_UNIT', 'longer than its section', { section, offset });
  const version = cursor.u16();
  if (version < 2 || version > 5) {
    refuseDwarf('UNSUPPORTED_VERSION', `a unit of version ${version}`, { section, offset });
  }
  const isNew = version >= 5;
  const type = isNew ? cursor.u8() : section === '.debug_types' ? DW_UT.type : DW_UT.compile;
  let addressBytes = isNew ? cursor.u8() : 0;
  const abbreviationOffset = cursor.unsigned(offsetBytes);
  if (!isNew) addressBytes = cursor.u8();
  if (addressBytes !== 8 && addressBytes !== 4) {
    refuseDwarf('BAD_UNIT', `addresses of ${addressBytes} bytes`, { section, offset });
  }
  const isType = type === DW_UT.type || type === DW_UT.split_type;
  const isSkeleton = type === DW_UT.skeleton || type === DW_UT.split_compile;
  const signature = isType || isSkeleton ? cursor.u64() : 0n;
  const typeOffset = isType ? cursor.unsigned(offsetBytes) : 0;
  if (cursor.offset > end) refuseDwarf('BAD_UNIT', 'ends in its header', { section, offset });
  // prettier-ignore
  return {
    section, offset, end, version, type, offsetBytes, addressBytes, abbreviationOffset,
    entries: cursor.offset, signature, typeOffset,
  };
}

/** The length that begins every header, and whether offsets are of 4 or 8 bytes. */
export function readInitialLength(cursor: Cursor): { length: number; offsetBytes: number } {
  const length = cursor.u32();
  if (length === 0xffff_ffff) return { length: cursor.index64(), offsetBytes: 8 };
  if (length >= 0xffff_fff0) {
    const { section, offset } = cursor;
    refuseDwarf('BAD_UNIT', 'a reserved length', { section, offset: offset - 4 });
  }
  return { length, offsetBytes: 4 };
}
