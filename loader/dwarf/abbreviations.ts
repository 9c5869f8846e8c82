/**
 * Abbreviation tables: the shape of an entry, by code.
 *
 * Source: DWARF 5, "Abbreviations Tables".
 */
import type { Budget } from './budget.js';
import { Cursor } from './cursor.js';
import { DW_FORM } from './constants.js';
import { refuseDwarf } from './errors.js';

/** One attribute of an abbreviation; `implicit` is the value of DW_FORM_implicit_const. */
export interface AttributeSpec {
  readonly name: number;
  readonly form: number;
  readonly implicit: bigint;
}

/** The tag, attributes and kind of the entries with one code. */
export interface Abbreviation {
  readonly tag: number;
  readonly hasChildren: boolean;
  readonly attributes: readonly AttributeSpec[];
}

/** Abbreviations by code. */
export type AbbreviationTable = ReadonlyMap<number, Abbreviation>;

/** The table at `offset` of .debug_abbrev. @throws DwarfError. */
export function readAbbreviations(
  section: Uint8Array,
  offset: number,
  budget: Budget,
): AbbreviationTable {
  const cursor = new Cursor('.debug_abbrev', section, offset);
  const table = new Map<number, Abbreviation>();
  for (;;) {
    const at = cursor.offset;
    const code = cursor.index();
    if (code === 0) return table;
    if (table.has(code)) {
      refuseDwarf('BAD_ABBREVIATION', `code ${code} twice`, {
        section: '.debug_abbrev',
        offset: at,
      });
    }
    const tag = cursor.index();
    const hasChildren = cursor.u8() !== 0;
    table.set(code, { tag, hasChildren, attributes: readAttributes(cursor, budget) });
  }
}

function readAttributes(cursor: Cursor, budget: Budget): AttributeSpec[] {
  const attributes: AttributeSpec[] = [];
  for (;;) {
    budget.spend(1);
    const name = cursor.index();
    const form = cursor.index();
    if (name === 0 && form === 0) return attributes;
    const implicit = form === DW_FORM.implicit_const ? cursor.sleb() : 0n;
    attributes.push({ name, form, implicit });
  }
}
