/**
 * The debug information of one file: its units, their entries, and the values that lie in other sections.
 *
 * Source: DWARF 5, "Debug Sections" and "Forms". Invariant: units are walked once, when they are first needed; every
 * lookup that fails is a DwarfError.
 */
import { toIndex } from '../../abi/uint.js';
import { readAbbreviations } from './abbreviations.js';
import type { AbbreviationTable } from './abbreviations.js';
import type { AttributeValue, StringSection } from './attributes.js';
import { Budget } from './budget.js';
import { DW_AT } from './constants.js';
import { Cursor } from './cursor.js';
import { Entry } from './entry.js';
import { indexEntries } from './entry-index.js';
import type { EntryIndex } from './entry-index.js';
import { refuseDwarf } from './errors.js';
import type { DebugSections } from './sections.js';
import { readUnitHeaders } from './unit.js';
import type { Unit, UnitHeader, UnitSection } from './unit.js';

const MAX_LINKS = 32;
/** Indexes of units that are kept; a file that refers from unit to unit walks them again beyond that. */
const KEPT_INDEXES = 256;

/** Opens the debug information of a file. */
export class DebugInfo {
  readonly sections: DebugSections;
  readonly budget: Budget;
  readonly units: readonly Unit[];
  readonly #abbreviations = new Map<number, AbbreviationTable>();
  readonly #indexes = new Map<Unit, EntryIndex>();
  readonly #strings = new Map<string, string>();
  readonly #typeUnits = new Map<bigint, Unit>();

  /** @throws DwarfError NO_DEBUG_INFO when there is none. */
  constructor(sections: DebugSections) {
    this.sections = sections;
    let size = 0;
    for (const bytes of sections.values()) size += bytes.length;
    this.budget = new Budget(size);
    const info = sections.get('.debug_info');
    if (info === undefined || info.length === 0 || !sections.has('.debug_abbrev')) {
      refuseDwarf('NO_DEBUG_INFO', 'no debug information in the file');
    }
    this.units = [...this.#readUnits('.debug_info'), ...this.#readUnits('.debug_types')];
    for (const unit of this.units) {
      if (unit.typeOffset > 0) this.#typeUnits.set(unit.signature, unit);
    }
  }

  /** The root entry of a unit. */
  root(unit: Unit): Entry {
    return new Entry(unit, this.indexOf(unit), 0);
  }

  /** All entries of a unit that have one of the tags, in order of offset. */
  *entries(unit: Unit, tags: ReadonlySet<number>): Generator<Entry> {
    const index = this.indexOf(unit);
    const wanted = new Set<number>();
    for (const [code, { tag }] of unit.abbreviations) if (tags.has(tag)) wanted.add(code);
    if (wanted.size === 0) return;
    for (let number = 0; number < index.offsets.length; number++) {
      if (wanted.has(index.codes[number]!)) yield new Entry(unit, index, number);
    }
  }

  /** The walked entries of a unit. */
  indexOf(unit: Unit): EntryIndex {
    let index = this.#indexes.get(unit);
    if (index === undefined) {
      index = indexEntries(unit, this.budget);
      if (index.offsets.length === 0) {
        const { section, offset } = unit;
        refuseDwarf('BAD_UNIT', 'a unit without entries', { section, offset });
      }
      if (this.#indexes.size >= KEPT_INDEXES) {
        const [oldest] = this.#indexes.keys();
        if (oldest !== undefined) this.#indexes.delete(oldest);
      }
    } else this.#indexes.delete(unit);
    this.#indexes.set(unit, index);
    return index;
  }

  /** The entry that an attribute refers to; undefined when the attribute is not there or leads out of the file. */
  reference(entry: Entry, name: number): Entry | undefined {
    const value = entry.attribute(name);
    if (value === undefined) return undefined;
    switch (value.kind) {
      case 'reference':
        return this.#entryAt(entry.unit.section, value.value, entry.unit);
      case 'infoReference':
        return this.#entryAt('.debug_info', value.value);
      case 'signature':
        return this.#typeUnitEntry(value.value);
      case 'elsewhere':
        return undefined;
      default:
        return refuseDwarf('BAD_FORM', `a ${value.kind} is no reference`, this.where(entry));
    }
  }

  /** The attribute of the entry or of those that it completes or was inlined from. */
  inherited(entry: Entry, name: number): { value: AttributeValue; from: Entry } | undefined {
    let from: Entry | undefined = entry;
    for (let links = 0; from !== undefined && links < MAX_LINKS; links++) {
      const value = from.attribute(name);
      if (value !== undefined) return { value, from };
      const link: number = from.has(DW_AT.abstract_origin)
        ? DW_AT.abstract_origin
        : from.has(DW_AT.specification)
          ? DW_AT.specification
          : DW_AT.signature;
      from = from.has(link) ? this.reference(from, link) : undefined;
    }
    return undefined;
  }

  /** A string attribute of the entry itself. */
  text(entry: Entry, name: number): string | undefined {
    const value = entry.attribute(name);
    return value && this.textOf(value, entry.unit);
  }

  /** The name of an entry, its own or inherited. */
  nameOf(entry: Entry): string | undefined {
    const found = this.inherited(entry, DW_AT.name);
    return found && this.textOf(found.value, found.from.unit);
  }

  /** A value of class string. */
  textOf(value: AttributeValue, unit: Unit): string | undefined {
    switch (value.kind) {
      case 'string':
        return value.value;
      case 'stringOffset':
        return this.stringAt(value.section, value.value);
      case 'stringIndex': {
        const at = unit.bases.strings + value.value * unit.offsetBytes;
        const offset = this.section('.debug_str_offsets', at).unsigned(unit.offsetBytes);
        return this.stringAt('.debug_str', offset);
      }
      default:
        return undefined;
    }
  }

  /** The string at an offset of a string section. */
  stringAt(section: StringSection, offset: number): string {
    const key = section + offset.toString();
    let text = this.#strings.get(key);
    if (text === undefined) {
      const cursor = this.section(section, offset);
      text = cursor.string();
      this.budget.spend(text.length);
      this.#strings.set(key, text);
    }
    return text;
  }

  /** A constant of the entry; undefined when it has none. @throws DwarfError NUMBER_TOO_LARGE. */
  number(entry: Entry, name: number): number | undefined {
    const value = entry.attribute(name);
    if (value?.kind === 'offset') return value.value;
    if (value?.kind !== 'constant') return undefined;
    const isExact = value.value >= 0n && value.value <= BigInt(Number.MAX_SAFE_INTEGER);
    if (!isExact) refuseDwarf('NUMBER_TOO_LARGE', 'no offset or count', this.where(entry));
    return toIndex(value.value);
  }

  /** Whether a flag of the entry is set. */
  flag(entry: Entry, name: number): boolean {
    const value = entry.attribute(name);
    return value?.kind === 'flag' && value.value;
  }

  /** An address attribute; undefined when there is none. */
  address(entry: Entry, name: number): number | undefined {
    const value = entry.attribute(name);
    if (value?.kind === 'address') return value.value;
    return value?.kind === 'addressIndex' ? this.addressAt(entry.unit, value.value) : undefined;
  }

  /** The address with an index of the unit's part of .debug_addr. */
  addressAt(unit: Unit, index: number): number {
    const at = unit.bases.addresses + index * unit.addressBytes;
    return this.section('.debug_addr', at).unsigned(unit.addressBytes);
  }

  /** A cursor in a section that must be there. @throws DwarfError TRUNCATED for one that is not. */
  section(name: string, offset: number): Cursor {
    return new Cursor(name, this.sections.get(name) ?? new Uint8Array(), offset);
  }

  /** Details of an error about an entry. */
  where(entry: Entry): { section: string; offset: number } {
    return { section: entry.unit.section, offset: entry.offset };
  }

  #entryAt(section: UnitSection, offset: number, guess?: Unit): Entry {
    const isIn = (unit: Unit): boolean =>
      unit.section === section && offset >= unit.entries && offset < unit.end;
    const unit = guess !== undefined && isIn(guess) ? guess : this.#unitAt(section, offset);
    if (unit !== undefined) {
      const index = this.indexOf(unit);
      const number = binarySearch(index.offsets, offset);
      if (number >= 0) return new Entry(unit, index, number);
    }
    return refuseDwarf('BAD_REFERENCE', 'no entry there', { section, offset });
  }

  #typeUnitEntry(signature: bigint): Entry | undefined {
    const unit = this.#typeUnits.get(signature);
    return unit && this.#entryAt(unit.section, unit.offset + unit.typeOffset, unit);
  }

  #unitAt(section: UnitSection, offset: number): Unit | undefined {
    const all = this.units;
    let low = 0;
    let high = all.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const unit = all[middle]!;
      const isBefore = unit.section === section ? unit.end <= offset : unit.section < section;
      if (isBefore) low = middle + 1;
      else high = middle;
    }
    const found = all[low];
    return found?.section === section && offset >= found.entries ? found : undefined;
  }

  #readUnits(section: UnitSection): Unit[] {
    const bytes = this.sections.get(section) ?? new Uint8Array();
    return readUnitHeaders(section, bytes).map((header) => this.#readUnit(header, bytes));
  }

  #readUnit(header: UnitHeader, bytes: Uint8Array): Unit {
    this.budget.spend(1);
    const at = header.abbreviationOffset;
    let abbreviations = this.#abbreviations.get(at);
    if (abbreviations === undefined) {
      const section = this.sections.get('.debug_abbrev')!;
      abbreviations = readAbbreviations(section, at, this.budget);
      this.#abbreviations.set(at, abbreviations);
    }
    const bases = { strings: 0, addresses: 0, rangeLists: 0, locationLists: 0, lowPc: 0 };
    const unit: Unit = { ...header, bytes, abbreviations, bases };
    const root = rootOf(unit);
    if (root === undefined) return unit;
    // A producer may leave out the bases of tables that have a header and nothing before it.
    const table = header.offsetBytes === 8 ? 16 : 8;
    const list = header.offsetBytes === 8 ? 20 : 12;
    bases.strings = this.number(root, DW_AT.str_offsets_base) ?? (header.version >= 5 ? table : 0);
    bases.addresses = this.number(root, DW_AT.addr_base) ?? (header.version >= 5 ? table : 0);
    bases.rangeLists = this.number(root, DW_AT.rnglists_base) ?? list;
    bases.locationLists = this.number(root, DW_AT.loclists_base) ?? list;
    bases.lowPc = this.address(root, DW_AT.low_pc) ?? 0;
    return unit;
  }
}

/** The root entry without the walk of the unit; it has no children here. */
function rootOf(unit: Unit): Entry | undefined {
  const cursor = new Cursor(unit.section, unit.bytes, unit.entries, unit.end);
  const code = cursor.isAtEnd ? 0 : cursor.index();
  if (code === 0) return undefined;
  const one = (value: number): Uint32Array => Uint32Array.of(value);
  const parents = Int32Array.of(-1);
  return new Entry(
    unit,
    { offsets: one(unit.entries), codes: one(code), parents, ends: one(1) },
    0,
  );
}

function binarySearch(sorted: Uint32Array, value: number): number {
  let low = 0;
  let high = sorted.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const found = sorted[middle]!;
    if (found === value) return middle;
    if (found < value) low = middle + 1;
    else high = middle - 1;
  }
  return -1;
}
