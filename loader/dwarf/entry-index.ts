/**
 * Where the entries of one unit are: offsets, parents and ends of subtrees, found in one walk.
 *
 * Source: DWARF 5, "Relationship of Debugging Information Entries".
 * Invariant: an entry costs sixteen bytes; its attributes stay in the section until they are asked for.
 */
import type { Abbreviation } from './abbreviations.js';
import { fixedBytes, skipValue } from './attributes.js';
import type { Budget } from './budget.js';
import { Cursor } from './cursor.js';
import { refuseDwarf } from './errors.js';
import type { Unit } from './unit.js';

/** Entries in order of offset; entry 0 is the root. */
export interface EntryIndex {
  readonly offsets: Uint32Array;
  readonly codes: Uint32Array;
  /** -1 of the root. */
  readonly parents: Int32Array;
  /** The first entry after the subtree. */
  readonly ends: Uint32Array;
}

const MAX_DEPTH = 512;

/** How to step over the attributes of an abbreviation: by a sum, or form by form. */
interface Plan {
  readonly hasChildren: boolean;
  readonly bytes: number | undefined;
  readonly forms: readonly number[];
}

/** Walks the entries of a unit. @throws DwarfError. */
export function indexEntries(unit: Unit, budget: Budget): EntryIndex {
  const cursor = new Cursor(unit.section, unit.bytes, unit.entries, unit.end);
  const plans = new Map<number, Plan>();
  const offsets: number[] = [];
  const codes: number[] = [];
  const parents: number[] = [];
  const ends: number[] = [];
  const open: number[] = [];
  while (!cursor.isAtEnd) {
    const offset = cursor.offset;
    const code = cursor.index();
    if (code === 0) {
      const last = open.pop();
      if (last === undefined) break;
      ends[last] = offsets.length;
      if (open.length === 0) break;
      continue;
    }
    let plan = plans.get(code);
    if (plan === undefined) {
      const abbreviation = abbreviationOf(unit, code, offset);
      plan = planOf(abbreviation, unit);
      plans.set(code, plan);
    }
    budget.spend(1 + (plan.bytes === undefined ? plan.forms.length : 0));
    const entry = offsets.length;
    offsets.push(offset);
    codes.push(code);
    parents.push(open.at(-1) ?? -1);
    ends.push(entry + 1);
    if (plan.bytes === undefined) for (const form of plan.forms) skipValue(cursor, unit, form);
    else cursor.skip(plan.bytes);
    if (plan.hasChildren) {
      open.push(entry);
      if (open.length > MAX_DEPTH) {
        refuseDwarf('BAD_UNIT', 'entries too deep', { section: unit.section, offset });
      }
    } else if (open.length === 0) break;
  }
  for (const entry of open) ends[entry] = offsets.length;
  return {
    offsets: Uint32Array.from(offsets),
    codes: Uint32Array.from(codes),
    parents: Int32Array.from(parents),
    ends: Uint32Array.from(ends),
  };
}

/** The abbreviation that an entry names. @throws DwarfError BAD_ABBREVIATION. */
export function abbreviationOf(unit: Unit, code: number, offset: number): Abbreviation {
  const { section } = unit;
  return (
    unit.abbreviations.get(code) ??
    refuseDwarf('BAD_ABBREVIATION', `no abbreviation ${code}`, { section, offset })
  );
}

function planOf({ hasChildren, attributes }: Abbreviation, unit: Unit): Plan {
  const sizes = attributes.map(({ form }) => fixedBytes(form, unit));
  const isFixed = sizes.every((size) => size !== undefined);
  const bytes = isFixed ? sizes.reduce((sum, size) => sum + size, 0) : undefined;
  return { hasChildren, bytes, forms: attributes.map(({ form }) => form) };
}
