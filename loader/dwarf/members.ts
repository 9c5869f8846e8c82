/**
 * The members of a structure, union or class as fields with offsets, and bit fields by storage unit.
 *
 * Source: DWARF 5, "Data Member Entries"; DWARF 3, "Data Member Entries", for DW_AT_bit_offset, which counts from the
 * most significant bit of the storage unit.
 */
import { s64, toIndex } from '../../abi/uint.js';
import { DW_AT, DW_TAG } from './constants.js';
import { Cursor } from './cursor.js';
import type { DebugInfo } from './debug-info.js';
import type { Entry } from './entry.js';
import { refuseDwarf } from './errors.js';
import type { Types } from './types.js';

/** One field; `fields` are those of a member whose structure has no name of its own. */
export interface LayoutField {
  readonly name: string;
  /** In bytes; of a bit field, of its storage unit. */
  readonly offset: number;
  readonly size: number;
  /** As C spells it. */
  readonly type: string;
  /** Without typedefs and qualifiers. */
  readonly canonical: string;
  /** The natural alignment of the type, or the one that the source gives the member. */
  readonly align: number;
  /** Bits from the start of the storage unit, least significant first; null of a member without a width. */
  readonly bitOffset: number | null;
  readonly bitSize: number | null;
  readonly fields?: readonly LayoutField[];
}

const MAX_DEPTH = 32;
const MAX_BITS = 1n << 40n;
const DW_OP_PLUS_UCONST = 0x23;
const T = DW_TAG;
const RECORDS: readonly number[] = [T.structure_type, T.class_type, T.union_type];

/** The fields of a record, those of its anonymous members among them. @throws DwarfError. */
export function fieldsOf(
  info: DebugInfo,
  types: Types,
  record: Entry,
  base = 0,
  depth = 0,
): LayoutField[] {
  if (depth > MAX_DEPTH) refuseDwarf('TYPE_CYCLE', 'nested too deep', info.where(record));
  const fields: LayoutField[] = [];
  for (const child of record.children()) {
    info.budget.spend(1);
    if (child.tag === T.variant_part || child.tag === T.variant) {
      fields.push(...fieldsOf(info, types, child, base, depth + 1));
    } else if (child.tag === T.inheritance || isMember(info, child)) {
      fields.push(...fieldOf(info, types, child, base, depth));
    }
  }
  return fields;
}

/** A member of every object; static ones are declared here and live elsewhere. */
function isMember(info: DebugInfo, child: Entry): boolean {
  const isStatic = info.flag(child, DW_AT.declaration) || info.flag(child, DW_AT.external);
  return child.tag === T.member && !isStatic;
}

function fieldOf(
  info: DebugInfo,
  types: Types,
  member: Entry,
  base: number,
  depth: number,
): LayoutField[] {
  const place = byteOffset(info, member);
  if (place === undefined) return [];
  const type = types.typeOf(member);
  const { spelling, canonical, size, align } = types.factsOf(type);
  const ownAlign = info.number(member, DW_AT.alignment) ?? align;
  const given = info.text(member, DW_AT.name);
  const name = member.tag === T.inheritance ? '<base>' : given;
  const bits = bitsOf(info, member, place, size);
  const common = { type: spelling, canonical, align: ownAlign };
  if (bits !== undefined) {
    // An unnamed bit field is padding, which has no field.
    if (name === undefined) return [];
    return [{ name, ...common, ...bits, offset: base + bits.offset }];
  }
  const offset = base + place;
  const target = types.resolve(type);
  const isRecord = target !== undefined && RECORDS.includes(target.tag);
  if (name === undefined && isRecord) return fieldsOf(info, types, target, offset, depth + 1);
  const field = { name: name ?? '', offset, size, ...common, bitOffset: null, bitSize: null };
  const inner = recordWithoutName(types, type);
  if (inner === undefined) return [field];
  return [{ ...field, fields: fieldsOf(info, types, inner, offset, depth + 1) }];
}

/** The record of a member that is declared with it: `struct { ... } name`, also an array of such. */
function recordWithoutName(types: Types, type: Entry | undefined): Entry | undefined {
  let entry = type;
  if (entry?.tag === T.array_type) entry = types.typeOf(entry);
  const isNameless = entry !== undefined && RECORDS.includes(entry.tag) && !entry.has(DW_AT.name);
  return isNameless ? entry : undefined;
}

function byteOffset(info: DebugInfo, member: Entry): number | undefined {
  const value = member.attribute(DW_AT.data_member_location);
  if (value === undefined) return 0;
  if (value.kind === 'constant' || value.kind === 'offset') {
    return info.number(member, DW_AT.data_member_location);
  }
  if (value.kind !== 'expression' && value.kind !== 'block') return undefined;
  const cursor = new Cursor(member.unit.section, value.value);
  const isSum = value.value.length > 1 && cursor.u8() === DW_OP_PLUS_UCONST;
  return isSum ? cursor.index() : undefined;
}

/** Where a member lies in its record; undefined when only a run knows. @throws DwarfError. */
export function memberPlace(
  info: DebugInfo,
  member: Entry,
  sizeBytes: number,
): Pick<LayoutField, 'offset' | 'bitOffset' | 'bitSize'> | undefined {
  const offset = byteOffset(info, member);
  if (offset === undefined) return undefined;
  return bitsOf(info, member, offset, sizeBytes) ?? { offset, bitOffset: null, bitSize: null };
}

type Bits = Pick<LayoutField, 'offset' | 'size' | 'bitOffset' | 'bitSize'>;

function bitsOf(info: DebugInfo, member: Entry, place: number, size: number): Bits | undefined {
  const bitSize = info.number(member, DW_AT.bit_size);
  if (bitSize === undefined) return undefined;
  const direct = info.number(member, DW_AT.data_bit_offset);
  const first = direct ?? place * 8 + bitInStorage(info, member, size, bitSize);
  const unit = Math.max(size, 1);
  const offset = Math.floor(first / (unit * 8)) * unit;
  return { offset, size, bitOffset: first - offset * 8, bitSize };
}

/** DW_AT_bit_offset may be negative where a field straddles its storage unit. */
function bitInStorage(info: DebugInfo, member: Entry, size: number, bitSize: number): number {
  const value = member.attribute(DW_AT.bit_offset);
  if (value?.kind !== 'constant') return 0;
  const storage = info.number(member, DW_AT.byte_size) ?? size;
  const fromTop = value.bytes === 4 ? s64(value.value << 32n) >> 32n : s64(value.value);
  if (fromTop < -MAX_BITS || fromTop > MAX_BITS) {
    refuseDwarf('NUMBER_TOO_LARGE', 'a bit offset', info.where(member));
  }
  const distance = fromTop < 0n ? -toIndex(-fromTop) : toIndex(fromTop);
  return storage * 8 - distance - bitSize;
}
