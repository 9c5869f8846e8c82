/**
 * The layouts of all structures, unions and enumerations in a file, each once.
 *
 * Source: DWARF 5, "Structure, Union, Class and Interface Type Entries", "Data Member Entries", "Enumeration Type Entries".
 * Invariant: offsets count from the start of the named structure, also those inside a nested one without a name;
 * members of an anonymous member are fields of the structure around it, as C reaches them.
 * Not modelled: members at an offset that only a run knows (virtual bases).
 */
import { DW_AT, DW_TAG } from './constants.js';
import type { DebugInfo } from './debug-info.js';
import type { Entry } from './entry.js';
import { fieldsOf } from './members.js';
import type { LayoutField } from './members.js';
import { Types } from './types.js';

/** One structure, union or class that has a name. */
export interface TypeLayout {
  readonly kind: 'struct' | 'union' | 'class';
  readonly name: string;
  /** `a::b` for what is declared inside others; empty in C. */
  readonly namespace: string;
  readonly size: number;
  readonly align: number;
  /** Whether the source gives the alignment, or it follows from the members. */
  readonly isAlignGiven: boolean;
  /** Whether a member lies at an offset that its type's alignment does not divide. */
  readonly isPacked: boolean;
  readonly fields: readonly LayoutField[];
}

/** One enumeration; a name may be missing. */
export interface EnumerationLayout {
  readonly name: string;
  readonly size: number;
  readonly enumerators: readonly { readonly name: string; readonly value: bigint }[];
}

/** What a file lays out. */
export interface Layouts {
  readonly structs: readonly TypeLayout[];
  readonly enumerations: readonly EnumerationLayout[];
}

const T = DW_TAG;
// prettier-ignore
const LAID_OUT: ReadonlySet<number> = new Set([
  T.structure_type, T.class_type, T.union_type, T.typedef, T.enumeration_type,
]);

/** Reads all layouts of a file. @throws DwarfError. */
export function readLayouts(info: DebugInfo): Layouts {
  const types = new Types(info);
  const structs = new Map<string, TypeLayout>();
  const enumerations = new Map<string, EnumerationLayout>();
  for (const unit of info.units) {
    for (const entry of info.entries(unit, LAID_OUT)) {
      const { tag } = entry;
      if (tag === T.enumeration_type) {
        const layout = enumerationOf(info, types, entry);
        if (layout !== undefined) addOnce(enumerations, layout);
      } else {
        const layout =
          tag === T.typedef ? typedefOf(info, types, entry) : namedOf(info, types, entry);
        if (layout !== undefined) addOnce(structs, layout);
      }
    }
  }
  return { structs: [...structs.values()], enumerations: [...enumerations.values()] };
}

function addOnce<L>(known: Map<string, L>, layout: L): void {
  const key = JSON.stringify(layout, (_key, value: unknown) =>
    typeof value === 'bigint' ? value.toString() : value,
  );
  if (!known.has(key)) known.set(key, layout);
}

function namedOf(info: DebugInfo, types: Types, entry: Entry): TypeLayout | undefined {
  if (kindOf(entry) === undefined || info.flag(entry, DW_AT.declaration)) return undefined;
  const name = info.text(entry, DW_AT.name);
  return name === undefined ? undefined : layoutOf(info, types, entry, name, entry);
}

/** `typedef struct { ... } name;` gives the structure its name. */
function typedefOf(info: DebugInfo, types: Types, entry: Entry): TypeLayout | undefined {
  const record = info.reference(entry, DW_AT.type);
  const isAnonymous =
    record !== undefined && kindOf(record) !== undefined && !record.has(DW_AT.name);
  if (!isAnonymous || info.flag(record, DW_AT.declaration)) return undefined;
  const name = info.text(entry, DW_AT.name);
  return name === undefined ? undefined : layoutOf(info, types, record, name, entry);
}

function layoutOf(
  info: DebugInfo,
  types: Types,
  record: Entry,
  name: string,
  declared: Entry,
): TypeLayout {
  const fields = fieldsOf(info, types, record);
  const isPacked = fields.some(
    ({ offset, align, bitSize }) => bitSize === null && offset % align > 0,
  );
  const given = info.number(declared, DW_AT.alignment) ?? info.number(record, DW_AT.alignment);
  return {
    kind: kindOf(record)!,
    name,
    namespace: namespaceOf(info, declared),
    size: types.sizeOf(record),
    align: given ?? types.alignOf(record),
    isAlignGiven: given !== undefined,
    isPacked,
    fields,
  };
}

function kindOf({ tag }: Entry): TypeLayout['kind'] | undefined {
  if (tag === T.structure_type) return 'struct';
  if (tag === T.class_type) return 'class';
  return tag === T.union_type ? 'union' : undefined;
}

const SCOPES: readonly number[] = [T.namespace, T.structure_type, T.class_type, T.union_type];

function namespaceOf(info: DebugInfo, entry: Entry): string {
  const names: string[] = [];
  for (let scope = entry.parent; scope !== undefined; scope = scope.parent) {
    info.budget.spend(1);
    if (SCOPES.includes(scope.tag)) names.unshift(info.text(scope, DW_AT.name) ?? '<unnamed>');
  }
  return names.join('::');
}

function enumerationOf(info: DebugInfo, types: Types, entry: Entry): EnumerationLayout | undefined {
  if (info.flag(entry, DW_AT.declaration)) return undefined;
  const enumerators = [...entry.children()]
    .filter(({ tag }) => tag === T.enumerator)
    .map((enumerator) => {
      info.budget.spend(1);
      const value = enumerator.attribute(DW_AT.const_value);
      return {
        name: info.text(enumerator, DW_AT.name) ?? '',
        value: value?.kind === 'constant' ? value.value : 0n,
      };
    });
  return { name: info.text(entry, DW_AT.name) ?? '', size: types.sizeOf(entry), enumerators };
}
