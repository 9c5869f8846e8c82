/**
 * One debugging information entry: its tag, its attributes on demand, its children.
 *
 * Source: DWARF 5, "Debugging Information Entry (DIE)". Invariant: an entry holds no bytes, only where they are.
 */
import type { Abbreviation } from './abbreviations.js';
import { readValue, skipValue } from './attributes.js';
import type { AttributeValue } from './attributes.js';
import { Cursor } from './cursor.js';
import { abbreviationOf } from './entry-index.js';
import type { EntryIndex } from './entry-index.js';
import type { Unit } from './unit.js';

/** The entry with number `number` of a unit's index. */
export class Entry {
  readonly unit: Unit;
  readonly index: EntryIndex;
  readonly number: number;
  readonly #abbreviation: Abbreviation;

  constructor(unit: Unit, index: EntryIndex, number: number) {
    this.unit = unit;
    this.index = index;
    this.number = number;
    this.#abbreviation = abbreviationOf(unit, index.codes[number]!, index.offsets[number]!);
  }

  get tag(): number {
    return this.#abbreviation.tag;
  }

  /** Of its section. */
  get offset(): number {
    return this.index.offsets[this.number]!;
  }

  get parent(): Entry | undefined {
    const parent = this.index.parents[this.number]!;
    return parent < 0 ? undefined : new Entry(this.unit, this.index, parent);
  }

  /** Its children, in order. */
  *children(): Generator<Entry> {
    const { ends } = this.index;
    const end = ends[this.number]!;
    for (let child = this.number + 1; child < end; child = ends[child]!) {
      yield new Entry(this.unit, this.index, child);
    }
  }

  /** Whether the entry has the attribute; costs no reading. */
  has(name: number): boolean {
    return this.#abbreviation.attributes.some((spec) => spec.name === name);
  }

  /** The value of an attribute. @throws DwarfError. */
  attribute(name: number): AttributeValue | undefined {
    if (!this.has(name)) return undefined;
    const { unit } = this;
    const cursor = new Cursor(unit.section, unit.bytes, this.offset, unit.end);
    cursor.skipLeb();
    for (const spec of this.#abbreviation.attributes) {
      if (spec.name === name) return readValue(cursor, unit, spec);
      skipValue(cursor, unit, spec.form);
    }
    return undefined;
  }
}
