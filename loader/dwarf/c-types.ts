/**
 * Types as a debugger needs them to print a value and to follow `->`: kinds, sizes, members, enumerators.
 *
 * Source: DWARF 5, "Type Entries"; C11 for what a member of an anonymous member is called.
 * Invariant: typedefs and qualifiers are resolved, `spelling` keeps them; what a type contains is read when asked for,
 * so that a type that points to itself ends.
 * Not modelled: members at an offset that only a run knows, pointers to members.
 */
import { s64, u64 } from '../../abi/uint.js';
import { DW_AT, DW_ATE, DW_TAG } from './constants.js';
import type { DebugInfo } from './debug-info.js';
import type { Entry } from './entry.js';
import { memberPlace } from './members.js';
import { Types } from './types.js';

/** What every type has. */
interface Common {
  /** As C spells it. */
  readonly spelling: string;
  readonly sizeBytes: number;
}

/** One name of an enumeration. */
export interface Enumerator {
  readonly name: string;
  readonly value: bigint;
}

/** A member; one without a name has members that C reaches as if they were of the record around it. */
export interface CMember {
  readonly name: string | null;
  /** In bytes; of a bit field, of its storage unit. */
  readonly offset: number;
  readonly type: CType;
  /** Bits from the start of the storage unit, least significant first; null of a member without a width. */
  readonly bits: { readonly offset: number; readonly size: number } | null;
}

export interface CInteger extends Common {
  readonly kind: 'integer';
  readonly isSigned: boolean;
  readonly meaning: 'number' | 'character' | 'boolean';
}
export interface CEnumeration extends Common {
  readonly kind: 'enumeration';
  readonly isSigned: boolean;
  readonly enumerators: readonly Enumerator[];
}
export interface CPointer extends Common {
  readonly kind: 'pointer';
  readonly target: () => CType;
}
export interface CArray extends Common {
  readonly kind: 'array';
  readonly element: () => CType;
  /** Undefined where the source leaves it open. */
  readonly count: number | undefined;
}
export interface CRecord extends Common {
  readonly kind: 'record';
  readonly members: () => readonly CMember[];
}
/** void, functions, floating point: shown as bytes or not at all. */
export interface COther extends Common {
  readonly kind: 'void' | 'function' | 'other';
}

/** A type without its typedefs and qualifiers. */
export type CType = CInteger | CEnumeration | CPointer | CArray | CRecord | COther;

const T = DW_TAG;
const RECORDS: readonly number[] = [T.structure_type, T.class_type, T.union_type];
const NAMED: ReadonlySet<number> = new Set([
  T.structure_type,
  T.class_type,
  T.union_type,
  T.enumeration_type,
  T.typedef,
  T.base_type,
]);
const ENUMERATIONS: ReadonlySet<number> = new Set([T.enumeration_type]);
const CHARACTERS: readonly (number | undefined)[] = [
  DW_ATE.signed_char,
  DW_ATE.unsigned_char,
  DW_ATE.UTF,
];
const SIGNED: readonly (number | undefined)[] = [DW_ATE.signed, DW_ATE.signed_char];

/** The types of one file. */
export class CTypes {
  readonly #info: DebugInfo;
  readonly #types: Types;
  readonly #known = new Map<string, CType>();
  #names: ReadonlyMap<string, Entry> | undefined;
  #enumerators: ReadonlyMap<string, bigint> | undefined;

  constructor(info: DebugInfo) {
    this.#info = info;
    this.#types = new Types(info);
  }

  /** The type of an entry; void when there is none. @throws DwarfError. */
  of(entry: Entry | undefined): CType {
    if (entry === undefined) return { kind: 'void', spelling: 'void', sizeBytes: 0 };
    const key = `${entry.unit.section}${entry.offset}`;
    let type = this.#known.get(key);
    if (type === undefined) {
      type = this.#read(entry);
      this.#known.set(key, type);
    }
    return type;
  }

  /** The type that C calls `name`: `struct caretaker_ccb`, `u64`; a definition before a declaration. */
  named(name: string): CType | undefined {
    this.#names ??= this.#readNames();
    const entry = this.#names.get(name.trim().replace(/\s+/g, ' '));
    return entry && this.of(entry);
  }

  /** Names that named() knows. */
  get names(): string[] {
    this.#names ??= this.#readNames();
    return [...this.#names.keys()];
  }

  /** All enumerators of the file by name. */
  get enumerators(): ReadonlyMap<string, bigint> {
    if (this.#enumerators === undefined) {
      const found = new Map<string, bigint>();
      for (const unit of this.#info.units) {
        for (const entry of this.#info.entries(unit, ENUMERATIONS)) {
          for (const { name, value } of this.#enumeratorsOf(entry)) found.set(name, value);
        }
      }
      this.#enumerators = found;
    }
    return this.#enumerators;
  }

  #read(entry: Entry): CType {
    const { spelling, size } = this.#types.factsOf(entry);
    const common = { spelling, sizeBytes: size };
    const target = this.#types.resolve(entry);
    if (target === undefined) return { kind: 'void', ...common };
    const inner = (): CType => this.of(this.#types.typeOf(target));
    if (target.tag === T.base_type) return this.#readBase(target, common);
    if (target.tag === T.enumeration_type) {
      const enumerators = this.#enumeratorsOf(target);
      const isSigned = enumerators.some(({ value }) => s64(value) < 0n);
      return { kind: 'enumeration', ...common, isSigned, enumerators };
    }
    if (target.tag === T.pointer_type) return { kind: 'pointer', ...common, target: inner };
    if (target.tag === T.array_type) return this.#readArray(target, spelling);
    if (target.tag === T.subroutine_type) return { kind: 'function', ...common };
    if (RECORDS.includes(target.tag)) {
      let members: readonly CMember[] | undefined;
      return { kind: 'record', ...common, members: () => (members ??= this.#membersOf(target)) };
    }
    return { kind: 'other', ...common };
  }

  #readBase(entry: Entry, common: Common): CType {
    const encoding = this.#info.number(entry, DW_AT.encoding);
    if (encoding === DW_ATE.float || encoding === DW_ATE.complex_float) {
      return { kind: 'other', ...common };
    }
    const isCharacter = CHARACTERS.includes(encoding) && common.sizeBytes === 1;
    const meaning = encoding === DW_ATE.boolean ? 'boolean' : isCharacter ? 'character' : 'number';
    return { kind: 'integer', ...common, isSigned: SIGNED.includes(encoding), meaning };
  }

  /** Each further dimension is an array as element. */
  #readArray(array: Entry, spelling: string): CType {
    const last = this.of(this.#types.typeOf(array));
    const dimensions = this.#types.dimensions(array);
    const make = (at: number): CType => {
      if (at === dimensions.length) return last;
      const element = make(at + 1);
      const count = dimensions[at];
      const rest = dimensions.slice(at).map((one) => `[${one ?? ''}]`);
      return {
        kind: 'array',
        spelling: at === 0 ? spelling : last.spelling + rest.join(''),
        sizeBytes: (count ?? 0) * element.sizeBytes,
        element: () => element,
        count,
      };
    };
    return make(0);
  }

  #membersOf(record: Entry): CMember[] {
    return [...record.children()].flatMap((child) => {
      this.#info.budget.spend(1);
      const isStatic = child.has(DW_AT.declaration) || child.has(DW_AT.external);
      if ((child.tag !== T.member && child.tag !== T.inheritance) || isStatic) return [];
      const type = this.of(this.#types.typeOf(child));
      const place = memberPlace(this.#info, child, type.sizeBytes);
      const name = this.#info.text(child, DW_AT.name) ?? null;
      // An unnamed bit field is padding.
      if (place === undefined || (name === null && place.bitSize !== null)) return [];
      const { offset, bitOffset, bitSize } = place;
      const bits =
        bitOffset === null || bitSize === null ? null : { offset: bitOffset, size: bitSize };
      return [{ name, offset, type, bits }];
    });
  }

  #enumeratorsOf(entry: Entry): Enumerator[] {
    return [...entry.children()]
      .filter(({ tag }) => tag === T.enumerator)
      .map((child) => {
        this.#info.budget.spend(1);
        const value = child.attribute(DW_AT.const_value);
        return {
          name: this.#info.text(child, DW_AT.name) ?? '',
          value: value?.kind === 'constant' ? u64(value.value) : 0n,
        };
      });
  }

  #readNames(): ReadonlyMap<string, Entry> {
    const names = new Map<string, Entry>();
    for (const unit of this.#info.units) {
      for (const entry of this.#info.entries(unit, NAMED)) {
        const name = this.#info.text(entry, DW_AT.name);
        if (name === undefined || this.#info.flag(entry, DW_AT.declaration)) continue;
        const { spelling } = this.#types.factsOf(entry);
        if (!names.has(spelling)) names.set(spelling, entry);
      }
    }
    return names;
  }
}

/** The member that C reaches as `name`, also through members without a name; offsets are of the record. */
export function memberNamed(record: CRecord, name: string, depth = 0): CMember | undefined {
  for (const member of record.members()) {
    if (member.name === name) return member;
    if (member.name !== null || member.type.kind !== 'record' || depth > 16) continue;
    const found = memberNamed(member.type, name, depth + 1);
    if (found !== undefined) return { ...found, offset: member.offset + found.offset };
  }
  return undefined;
}

/** The value of `bits` bits at `offset` in a storage unit, sign-extended to 64 when asked for. */
export function extractBits(
  storage: bigint,
  offset: number,
  bits: number,
  isSigned: boolean,
): bigint {
  const width = BigInt(bits);
  const value = (u64(storage) >> BigInt(offset)) & ((1n << width) - 1n);
  const isNegative = isSigned && bits > 0 && value >> (width - 1n) === 1n;
  return isNegative ? u64(value - (1n << width)) : value;
}

/** Little-endian bytes as an unsigned number of any length up to 8. */
export function unsignedOf(bytes: Uint8Array): bigint {
  let value = 0n;
  for (let at = Math.min(bytes.length, 8) - 1; at >= 0; at--) {
    value = (value << 8n) | BigInt(bytes[at]!);
  }
  return value;
}
