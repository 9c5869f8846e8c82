/**
 * A layout without its origin: what a binary's debug information, the contract and the lock have in common.
 *
 * Invariant: `canonical` has no typedefs: `u64[15]`, `struct caretaker_stall[64]`, `struct page *`. Members of a
 * member whose structure has no name are fields as `outer.inner`.
 */
import { CONTRACT } from '../contract.js';
import { KHO_RECORDS } from '../kho-records.js';
import type { StructLayout } from '../layout.js';
import { elementBytes } from '../layout.js';

/** One field. */
export interface FieldShape {
  readonly name: string;
  readonly offset: number;
  readonly size: number;
  readonly canonical: string;
  readonly bitOffset: number | null;
  readonly bitSize: number | null;
}

/** One structure; `align` null when nobody says it. */
export interface StructShape {
  readonly name: string;
  readonly size: number;
  readonly align: number | null;
  readonly fields: readonly FieldShape[];
}

/** One enumerator: which enumeration it is of, and its value. A compiler keeps or drops an enumeration as a whole. */
export interface ConstantShape {
  readonly enumeration: string;
  readonly value: bigint;
}

/** What a structure says of itself; a record that crosses kexec is found by its compatible string. */
export interface VersionShape {
  readonly magic: bigint;
  readonly version: number;
  readonly compatible?: string;
}

/** What is compared: structures, enumerators by name, versions by structure. */
export interface AbiShape {
  readonly structs: readonly StructShape[];
  readonly constants: ReadonlyMap<string, ConstantShape>;
  readonly versions: ReadonlyMap<string, VersionShape>;
}

/** A layout of the contract as a shape. */
export function shapeOf(layout: StructLayout): StructShape {
  return {
    name: layout.name,
    size: layout.sizeBytes,
    align: alignOf(layout),
    fields: layout.fields.map((field) => {
      const base = typeof field.type === 'string' ? field.type : `struct ${field.type.name}`;
      return {
        name: field.name,
        offset: field.offset,
        size: elementBytes(field) * field.count,
        canonical: field.count > 1 ? `${base}[${field.count}]` : base,
        bitOffset: null,
        bitSize: null,
      };
    }),
  };
}

function alignOf(layout: StructLayout): number {
  const aligns = layout.fields.map((field) =>
    typeof field.type === 'string' ? elementBytes(field) : alignOf(field.type),
  );
  return Math.max(1, ...aligns);
}

/** Structures that KVM and a payload share, parts included. */
export const SHARED: readonly StructShape[] = CONTRACT.flatMap(({ layout, parts, align }) => [
  align === undefined ? shapeOf(layout) : { ...shapeOf(layout), align },
  ...parts.map(shapeOf),
]);

/** What one kernel writes for the next; in no payload's debug information. */
export const RECORDS: readonly StructShape[] = KHO_RECORDS.map(({ layout }) => shapeOf(layout));

/** The structures of these names and those inside them, by value or by pointer. */
export function closureOf(structs: readonly StructShape[], names: Iterable<string>): Set<string> {
  const found = new Set<string>();
  const open = [...names];
  for (let name = open.pop(); name !== undefined; name = open.pop()) {
    if (found.has(name)) continue;
    found.add(name);
    for (const { fields } of structs.filter((one) => one.name === name)) {
      for (const { canonical } of fields) {
        const inner = /^(?:struct|union|class) (\w+)/.exec(canonical)?.[1];
        if (inner !== undefined) open.push(inner);
      }
    }
  }
  return found;
}

/** Whether the bytes of a field are kept at 0 for later. */
export function isReserved({ name }: FieldShape): boolean {
  return /^_*(reserved|pad|padding|unused|rsvd|resv|spare)\d*(_|\d|$)/.test(
    name.slice(name.lastIndexOf('.') + 1),
  );
}

/** A field as one line of text. */
export function textOf(field: FieldShape): string {
  const bits = field.bitSize === null ? '' : `:${field.bitSize} at bit ${field.bitOffset ?? 0}`;
  return `${field.canonical}${bits} at ${field.offset}, ${field.size} bytes`;
}
