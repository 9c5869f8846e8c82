/**
 * Types as text and as facts: how C spells one, what is left when typedefs are resolved, and how large it is.
 *
 * Source: DWARF 5, "Type Entries"; C11, "Type names" for the spelling.
 * Invariant: a chain of types ends within 64 steps or is a TYPE_CYCLE.
 */
import { s64, toIndex } from '../../abi/uint.js';
import { DW_AT, DW_ATE, DW_TAG } from './constants.js';
import type { DebugInfo } from './debug-info.js';
import type { Entry } from './entry.js';
import { refuseDwarf } from './errors.js';

const MAX_DEPTH = 64;
const T = DW_TAG;

/** What a layout says of a member's type. */
export interface TypeFacts {
  /** As C spells it: `u64[15]`, `struct list_head *`. */
  readonly spelling: string;
  /** Without typedefs and qualifiers: `u64[15]`, `struct list_head *`, `enum caretaker_request:u32`. */
  readonly canonical: string;
  readonly size: number;
  /** The alignment that the psABI gives it, or that the source does; 1 when unknown. */
  readonly align: number;
}

// prettier-ignore
const KEYWORDS: Readonly<Record<number, string>> = {
  [T.structure_type]: 'struct', [T.class_type]: 'class', [T.union_type]: 'union', [T.enumeration_type]: 'enum',
};
// prettier-ignore
const QUALIFIERS: Readonly<Record<number, string>> = {
  [T.const_type]: 'const', [T.volatile_type]: 'volatile', [T.restrict_type]: 'restrict', [T.atomic_type]: '_Atomic',
};
const POINTERS: Readonly<Record<number, string>> = {
  [T.pointer_type]: '*',
  [T.reference_type]: '&',
  [T.rvalue_reference_type]: '&&',
  [T.ptr_to_member_type]: '::*',
};

/** Reads the types of one file; what is known of a type is kept. */
export class Types {
  readonly #info: DebugInfo;
  readonly #facts = new Map<string, TypeFacts>();
  readonly #aligns = new Map<string, number>();

  constructor(info: DebugInfo) {
    this.#info = info;
  }

  /** The facts of a type; of `void` when there is no entry. @throws DwarfError. */
  factsOf(type: Entry | undefined): TypeFacts {
    if (type === undefined) return { spelling: 'void', canonical: 'void', size: 0, align: 1 };
    const key = keyOf(type);
    let facts = this.#facts.get(key);
    if (facts === undefined) {
      facts = {
        spelling: this.#declare(type, '', 0),
        canonical: this.#canonical(type, 0),
        size: this.sizeOf(type),
        align: this.alignOf(type),
      };
      this.#facts.set(key, facts);
    }
    return facts;
  }

  /** The type that an entry's DW_AT_type names. */
  typeOf(entry: Entry): Entry | undefined {
    const found = this.#info.inherited(entry, DW_AT.type);
    return found && this.#info.reference(found.from, DW_AT.type);
  }

  /** The type behind typedefs and qualifiers. */
  resolve(type: Entry | undefined): Entry | undefined {
    let entry = type;
    for (let depth = 0; entry !== undefined; depth++) {
      if (entry.tag !== T.typedef && !(entry.tag in QUALIFIERS)) return this.#definition(entry);
      entry = this.#step(entry, depth);
    }
    return undefined;
  }

  /** Bytes of a value of the type, 0 when the type is incomplete. */
  sizeOf(type: Entry | undefined, depth = 0): number {
    const entry = this.resolve(type);
    if (entry === undefined) return 0;
    const size = this.#info.number(entry, DW_AT.byte_size);
    if (size !== undefined) return size;
    if (entry.tag in POINTERS) return entry.unit.addressBytes;
    if (entry.tag === T.enumeration_type) return this.sizeOf(this.#step(entry, depth), depth + 1);
    if (entry.tag !== T.array_type) return 0;
    const element = this.sizeOf(this.#step(entry, depth), depth + 1);
    const total = this.dimensions(entry).reduce<number>(
      (all, count) => all * (count ?? 0),
      element,
    );
    return Number.isSafeInteger(total)
      ? total
      : refuseDwarf('NUMBER_TOO_LARGE', 'an array above 2^53 bytes', this.#info.where(entry));
  }

  /** The alignment of a type. */
  alignOf(type: Entry | undefined, depth = 0): number {
    let entry = type;
    for (let at = depth; entry !== undefined; at++) {
      const given = this.#info.number(entry, DW_AT.alignment);
      if (given !== undefined && given > 0) return given;
      entry = this.#definition(entry);
      if (
        entry.tag === T.structure_type ||
        entry.tag === T.union_type ||
        entry.tag === T.class_type
      ) {
        return this.#alignOfMembers(entry, at);
      }
      const isChain = entry.tag === T.typedef || entry.tag in QUALIFIERS;
      if (!isChain && entry.tag !== T.array_type) break;
      entry = this.#step(entry, at);
    }
    const size = this.sizeOf(entry);
    return size > 0 && size <= 16 && (size & (size - 1)) === 0 ? size : 1;
  }

  /** Elements along each dimension of an array; undefined where the source leaves it open. */
  dimensions(array: Entry): (number | undefined)[] {
    return [...array.children()]
      .filter(({ tag }) => tag === T.subrange_type)
      .map((range) => {
        const count = range.attribute(DW_AT.count);
        if (count?.kind === 'constant') return this.#info.number(range, DW_AT.count);
        const upper = range.attribute(DW_AT.upper_bound);
        if (upper?.kind !== 'constant') return undefined;
        const isMinusOne = upper.bytes === 4 && upper.value === 0xffff_ffffn;
        const elements = isMinusOne ? 0n : s64(upper.value) + 1n;
        return elements >= 0n && elements <= BigInt(Number.MAX_SAFE_INTEGER)
          ? toIndex(elements)
          : refuseDwarf('NUMBER_TOO_LARGE', 'an array too long', this.#info.where(range));
      });
  }

  /** The facts of an integer: `u32`, `s64`, `f80`, `bool`. */
  scalarOf(base: Entry): string {
    const size = this.#info.number(base, DW_AT.byte_size) ?? 0;
    switch (this.#info.number(base, DW_AT.encoding)) {
      case DW_ATE.boolean:
        return size === 1 ? 'bool' : `bool${size * 8}`;
      case DW_ATE.signed:
      case DW_ATE.signed_char:
        return `s${size * 8}`;
      case DW_ATE.float:
        return `f${size * 8}`;
      case DW_ATE.complex_float:
        return `c${size * 8}`;
      default:
        return `u${size * 8}`;
    }
  }

  #alignOfMembers(record: Entry, depth: number): number {
    const key = keyOf(record);
    const known = this.#aligns.get(key);
    if (known !== undefined) return known;
    let align = 1;
    this.#limit(record, depth);
    const size = this.sizeOf(record);
    for (const member of record.children()) {
      if (member.tag !== T.member && member.tag !== T.inheritance) continue;
      if (member.has(DW_AT.bit_size)) continue;
      this.#info.budget.spend(1);
      const given = this.#info.number(member, DW_AT.alignment);
      const own = given ?? this.alignOf(this.typeOf(member), depth + 1);
      const location = member.attribute(DW_AT.data_member_location);
      const offset = location?.kind === 'constant' ? toIndex(location.value & 0xffff_ffffn) : 0;
      const fits = offset % own === 0 && size % own === 0;
      if (fits) align = Math.max(align, own);
    }
    this.#aligns.set(key, align);
    return align;
  }

  /** A declaration's definition, when a type unit has it. */
  #definition(entry: Entry): Entry {
    return (
      (entry.has(DW_AT.signature) ? this.#info.reference(entry, DW_AT.signature) : entry) ?? entry
    );
  }

  #step(entry: Entry, depth: number): Entry | undefined {
    this.#limit(entry, depth);
    return this.#info.reference(entry, DW_AT.type);
  }

  #limit(entry: Entry, depth: number): void {
    this.#info.budget.spend(1);
    if (depth > MAX_DEPTH) refuseDwarf('TYPE_CYCLE', 'too deep', this.#info.where(entry));
  }

  /** The C declaration of `inner` with the type. */
  #declare(type: Entry | undefined, inner: string, depth: number): string {
    const gap = inner === '' || inner.startsWith('[') ? '' : ' ';
    if (type === undefined) return `void${gap}${inner}`;
    const { tag } = type;
    this.#info.budget.spend(inner.length);
    const next = this.#nextOf(type, depth);
    const qualifier = QUALIFIERS[tag];
    if (qualifier !== undefined) {
      const isPointer = next !== undefined && next.tag in POINTERS;
      if (isPointer)
        return this.#declare(next, `${qualifier}${inner === '' ? '' : ' '}${inner}`, depth + 1);
      return `${qualifier} ${this.#declare(next, inner, depth + 1)}`;
    }
    const star = POINTERS[tag];
    if (star !== undefined) {
      const isWord = /^\w/.test(inner);
      const declarator = `${star}${isWord ? ' ' : ''}${inner}`;
      const isBracketed = next?.tag === T.array_type || next?.tag === T.subroutine_type;
      return this.#declare(next, isBracketed ? `(${declarator})` : declarator, depth + 1);
    }
    if (tag === T.array_type) {
      const dimensions = this.dimensions(type).map((count) => `[${count ?? ''}]`);
      return this.#declare(next, inner + (dimensions.join('') || '[]'), depth + 1);
    }
    if (tag === T.subroutine_type) {
      return this.#declare(next, `${inner}(${this.#parameters(type, depth)})`, depth + 1);
    }
    const keyword = KEYWORDS[tag];
    const name = this.#info.nameOf(type) ?? (keyword === undefined ? '<unnamed>' : '{ ... }');
    return `${keyword === undefined ? name : `${keyword} ${name}`}${gap}${inner}`;
  }

  #nextOf(type: Entry, depth: number): Entry | undefined {
    const isChain =
      type.tag in QUALIFIERS ||
      type.tag in POINTERS ||
      type.tag === T.array_type ||
      type.tag === T.subroutine_type;
    return isChain ? this.#step(type, depth) : undefined;
  }

  #parameters(type: Entry, depth: number): string {
    const parameters: string[] = [];
    for (const child of type.children()) {
      if (child.tag === T.unspecified_parameters) parameters.push('...');
      if (child.tag !== T.formal_parameter) continue;
      this.#info.budget.spend(1);
      parameters.push(this.#declare(this.typeOf(child), '', depth + 1));
    }
    return parameters.length > 0 ? parameters.join(', ') : 'void';
  }

  #canonical(type: Entry | undefined, depth: number): string {
    const entry = this.resolve(type);
    if (entry === undefined) return 'void';
    const { tag } = entry;
    if (tag in POINTERS) return `${this.#canonical(this.#step(entry, depth), depth + 1)} *`;
    if (tag === T.base_type) return this.scalarOf(entry);
    if (tag === T.subroutine_type) return 'function';
    if (tag === T.array_type) {
      const dimensions = this.dimensions(entry).map((count) => `[${count ?? ''}]`);
      return this.#canonical(this.#step(entry, depth), depth + 1) + (dimensions.join('') || '[]');
    }
    const name = this.#info.nameOf(entry) ?? '{ ... }';
    if (tag === T.enumeration_type) return `enum ${name}:u${this.sizeOf(entry) * 8}`;
    const keyword = KEYWORDS[tag];
    return keyword === undefined ? name : `${keyword} ${name}`;
  }
}

function keyOf(entry: Entry): string {
  return `${entry.unit.section}${entry.offset}`;
}
