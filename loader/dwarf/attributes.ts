/**
 * Attribute values: read one, or step over it.
 *
 * Source: DWARF 5, "Attribute Encodings" and "Form Encodings".
 * Invariant: a value that lies in another section is named, not fetched; value-lookup does that when it is asked for.
 */
import type { AttributeSpec } from './abbreviations.js';
import { DW_FORM } from './constants.js';
import type { Cursor } from './cursor.js';
import { refuseDwarf } from './errors.js';
import type { Unit } from './unit.js';

/** Sections that hold strings by offset. */
export type StringSection = '.debug_str' | '.debug_line_str';

/** What an attribute holds, by class. */
export type AttributeValue =
  | { readonly kind: 'address'; readonly value: number }
  | { readonly kind: 'addressIndex'; readonly value: number }
  | { readonly kind: 'constant'; readonly value: bigint; readonly bytes: number }
  | { readonly kind: 'flag'; readonly value: boolean }
  | { readonly kind: 'string'; readonly value: string }
  | { readonly kind: 'stringOffset'; readonly section: StringSection; readonly value: number }
  | { readonly kind: 'stringIndex'; readonly value: number }
  /** An offset of the whole section of the unit. */
  | { readonly kind: 'reference'; readonly value: number }
  /** An offset of .debug_info from any section. */
  | { readonly kind: 'infoReference'; readonly value: number }
  | { readonly kind: 'signature'; readonly value: bigint }
  | { readonly kind: 'expression'; readonly value: Uint8Array }
  | { readonly kind: 'block'; readonly value: Uint8Array }
  | { readonly kind: 'offset'; readonly value: number }
  | { readonly kind: 'listIndex'; readonly value: number }
  /** In a file that is not here. */
  | { readonly kind: 'elsewhere' };

const F = DW_FORM;

/** Reads the value at the cursor. @throws DwarfError. */
export function readValue(cursor: Cursor, unit: Unit, spec: AttributeSpec): AttributeValue {
  const form = spec.form === F.indirect ? indirect(cursor) : spec.form;
  const text = (section: StringSection): AttributeValue => {
    return { kind: 'stringOffset', section, value: cursor.unsigned(unit.offsetBytes) };
  };
  const index = (kind: 'stringIndex' | 'addressIndex', value: number): AttributeValue => {
    return { kind, value };
  };
  const local = (value: number): AttributeValue => {
    return { kind: 'reference', value: unit.offset + value };
  };
  const constant = (value: number, bytes: number): AttributeValue => {
    return { kind: 'constant', value: BigInt(value), bytes };
  };
  const block = (value: Uint8Array): AttributeValue => {
    return { kind: 'block', value };
  };
  // prettier-ignore
  switch (form) {
    case F.addr: return { kind: 'address', value: cursor.unsigned(unit.addressBytes) };
    case F.data1: return constant(cursor.u8(), 1);
    case F.data2: return constant(cursor.u16(), 2);
    case F.data4: return constant(cursor.u32(), 4);
    case F.data8: return { kind: 'constant', value: cursor.u64(), bytes: 8 };
    case F.udata: return { kind: 'constant', value: cursor.uleb(), bytes: 0 };
    case F.sdata: return { kind: 'constant', value: cursor.sleb(), bytes: 0 };
    case F.implicit_const: return { kind: 'constant', value: spec.implicit, bytes: 0 };
    case F.flag: return { kind: 'flag', value: cursor.u8() !== 0 };
    case F.flag_present: return { kind: 'flag', value: true };
    case F.string: return { kind: 'string', value: cursor.string() };
    case F.strp: return text('.debug_str');
    case F.line_strp: return text('.debug_line_str');
    case F.strx: case F.GNU_str_index: return index('stringIndex', cursor.index());
    case F.strx1: return index('stringIndex', cursor.u8());
    case F.strx2: return index('stringIndex', cursor.u16());
    case F.strx3: return index('stringIndex', cursor.u24());
    case F.strx4: return index('stringIndex', cursor.u32());
    case F.addrx: case F.GNU_addr_index: return index('addressIndex', cursor.index());
    case F.addrx1: return index('addressIndex', cursor.u8());
    case F.addrx2: return index('addressIndex', cursor.u16());
    case F.addrx3: return index('addressIndex', cursor.u24());
    case F.addrx4: return index('addressIndex', cursor.u32());
    case F.ref1: return local(cursor.u8());
    case F.ref2: return local(cursor.u16());
    case F.ref4: return local(cursor.u32());
    case F.ref8: return local(cursor.index64());
    case F.ref_udata: return local(cursor.index());
    case F.ref_addr: return { kind: 'infoReference', value: cursor.unsigned(refAddrBytes(unit)) };
    case F.ref_sig8: return { kind: 'signature', value: cursor.u64() };
    case F.exprloc: return { kind: 'expression', value: cursor.block(cursor.index()) };
    case F.block: return block(cursor.block(cursor.index()));
    case F.block1: return block(cursor.block(cursor.u8()));
    case F.block2: return block(cursor.block(cursor.u16()));
    case F.block4: return block(cursor.block(cursor.u32()));
    case F.data16: return block(cursor.block(16));
    case F.sec_offset: return { kind: 'offset', value: cursor.unsigned(unit.offsetBytes) };
    case F.rnglistx: case F.loclistx: return { kind: 'listIndex', value: cursor.index() };
    default:
      skipValue(cursor, unit, form);
      return { kind: 'elsewhere' };
  }
}

/** Moves past a value. @throws DwarfError BAD_FORM for a form without a known size. */
export function skipValue(cursor: Cursor, unit: Unit, form: number): void {
  const fixed = fixedBytes(form, unit);
  if (fixed !== undefined) {
    cursor.skip(fixed);
    return;
  }
  // prettier-ignore
  switch (form) {
    case F.string: cursor.skipString(); return;
    case F.udata: case F.sdata: case F.ref_udata: case F.strx: case F.addrx: case F.rnglistx: case F.loclistx:
    case F.GNU_str_index: case F.GNU_addr_index: cursor.skipLeb(); return;
    case F.exprloc: case F.block: cursor.skip(cursor.index()); return;
    case F.block1: cursor.skip(cursor.u8()); return;
    case F.block2: cursor.skip(cursor.u16()); return;
    case F.block4: cursor.skip(cursor.u32()); return;
    case F.indirect: skipValue(cursor, unit, indirect(cursor)); return;
    default:
      refuseDwarf('BAD_FORM', `form ${form}`, { section: cursor.section, offset: cursor.offset });
  }
}

/** Bytes of a form that always takes as many; undefined for the others. */
export function fixedBytes(form: number, unit: Unit): number | undefined {
  // prettier-ignore
  switch (form) {
    case F.flag_present: case F.implicit_const: return 0;
    case F.data1: case F.flag: case F.ref1: case F.strx1: case F.addrx1: return 1;
    case F.data2: case F.ref2: case F.strx2: case F.addrx2: return 2;
    case F.strx3: case F.addrx3: return 3;
    case F.data4: case F.ref4: case F.strx4: case F.addrx4: case F.ref_sup4: return 4;
    case F.data8: case F.ref8: case F.ref_sig8: case F.ref_sup8: return 8;
    case F.data16: return 16;
    case F.addr: return unit.addressBytes;
    case F.ref_addr: return refAddrBytes(unit);
    case F.strp: case F.line_strp: case F.strp_sup: case F.sec_offset: case F.GNU_ref_alt: case F.GNU_strp_alt:
      return unit.offsetBytes;
    default: return undefined;
  }
}

/** DWARF 2 gave it the size of an address. */
function refAddrBytes(unit: Unit): number {
  return unit.version === 2 ? unit.addressBytes : unit.offsetBytes;
}

/** The form that the value itself names; one that names another such is refused. */
function indirect(cursor: Cursor): number {
  const { section, offset } = cursor;
  const form = cursor.index();
  const isNested = form === F.indirect || form === F.implicit_const;
  return isNested ? refuseDwarf('BAD_FORM', `indirect form ${form}`, { section, offset }) : form;
}
