/**
 * A layout without its origin: what a binary's debug information, the contract and the lock have in common.
 *
 * Invariant: `canonical` has no typedefs: `u64[15]`, `struct caretaker_stall[64]`, `ptr`.
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

/** What is compared: structures, enumerators by name, versions by structure. */
export interface AbiShape {
  readonly structs: readonly StructShape[];
  readonly constants: ReadonlyMap<string, bigint>;
  /** The enumeration that each constant belongs to: a compiler keeps or drops it as a whole. */
  readonly enumerationOf: ReadonlyMap<string, string>;
  readonly versions: ReadonlyMap<string, { readonly magic: bigint; readonly version: number }>;
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

/** Whether the bytes of a field are kept at 0 for later. */
export function isReserved({ name }: FieldShape): boolean {
  return /^_*(reserved|pad|padding|unused|rsvd)\d*(_|\d|$)/.test(name);
}

/** A field as one line of text. */
export function textOf(field: FieldShape): string {
  const bits = field.bitSize === null ? '' : `:${field.bitSize} at bit ${field.bitOffset ?? 0}`;
  return `${field.canonical}${bits} at ${field.offset}, ${field.size} bytes`;
}
