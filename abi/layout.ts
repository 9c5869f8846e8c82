/**
 * Structure layouts as plain tables: name, type, offset and writer of every field.
 *
 * Source: the structures of include/caretaker/*.h, written a second time on purpose; a test compares the two.
 * Invariant: fields are in order, aligned to their type, without gaps or overlaps.
 * Not modelled: bit fields and unions; the ABI has none.
 */
import { HarnessBug } from './errors.js';

/** Who writes a field. Exactly one of them, but for `others`: posted bits that anybody sets atomically. */
export type Writer = 'image' | 'init' | 'payload' | 'kvm' | 'owner' | 'others' | 'reserved';

export type ScalarType = 'u8' | 'u16' | 'u32' | 'u64';

const SCALAR_BYTES: Readonly<Record<ScalarType, number>> = { u8: 1, u16: 2, u32: 4, u64: 8 };

export interface Field {
  readonly name: string;
  readonly type: ScalarType | StructLayout;
  /** Bytes from the start of the structure. */
  readonly offset: number;
  /** Elements of an array; 1 for a plain field. */
  readonly count: number;
  readonly writer: Writer;
  /** When it is written and what for. */
  readonly doc: string;
}

export interface StructLayout {
  /** The C tag, without `struct`. */
  readonly name: string;
  readonly sizeBytes: number;
  readonly fields: readonly Field[];
}

/** [name, type, offset, writer, doc] with the type's array length behind a star: `u64*15`. */
export type FieldRow = readonly [
  string,
  string | StructLayout | readonly [StructLayout, number],
  number,
  Writer,
  string,
];

const scalarAndCount = (type: string): { type: ScalarType; count: number } => {
  const [name = '', count = '1'] = type.split('*');
  if (!(name in SCALAR_BYTES)) throw new HarnessBug(`no such scalar type: ${type}`);
  return { type: name as ScalarType, count: Number.parseInt(count, 10) };
};

const toField = ([name, type, offset, writer, doc]: FieldRow): Field => {
  if (typeof type === 'string') return { name, ...scalarAndCount(type), offset, writer, doc };
  const [struct, count] = 'fields' in type ? [type, 1] : type;
  return { name, type: struct, count, offset, writer, doc };
};

/** Bytes of one element of a field. */
export function elementBytes(field: Field): number {
  return typeof field.type === 'string' ? SCALAR_BYTES[field.type] : field.type.sizeBytes;
}

/** Makes a layout of rows; @throws HarnessBug where rows leave a gap, overlap or are misaligned. */
export function struct(name: string, sizeBytes: number, rows: readonly FieldRow[]): StructLayout {
  const fields = rows.map(toField);
  let end = 0;
  for (const field of fields) {
    if (field.offset !== end) {
      throw new HarnessBug(
        `${name}.${field.name}: offset ${field.offset}, the field before ends at ${end}`,
      );
    }
    end += elementBytes(field) * field.count;
  }
  if (end !== sizeBytes)
    throw new HarnessBug(`${name}: fields end at ${end}, size is ${sizeBytes}`);
  return { name, sizeBytes, fields };
}

/** The field of that name. @throws HarnessBug when there is none: names in code are checked by running it once. */
export function fieldOf(layout: StructLayout, name: string): Field {
  const field = layout.fields.find((f) => f.name === name);
  if (field === undefined) throw new HarnessBug(`${layout.name} has no field ${name}`);
  return field;
}

/** Offsets of all fields by name. */
export function offsetsOf<Name extends string>(
  layout: StructLayout,
): Readonly<Record<Name, number>> {
  return Object.fromEntries(layout.fields.map((f) => [f.name, f.offset])) as Record<Name, number>;
}

/** The header that begins every shared structure. */
export const CARETAKER_HEADER = struct('caretaker_header', 16, [
  ['magic', 'u64', 0, 'image', 'tells which structure this is'],
  ['version', 'u32', 8, 'image', 'changes with every change of the layout'],
  ['size', 'u32', 12, 'image', 'of the whole structure, in bytes'],
]);

/** A structure at a physical address, read and written by field name. */
export interface StructBytes {
  readU8(hpa: bigint): number;
  readU16(hpa: bigint): number;
  readU32(hpa: bigint): number;
  readU64(hpa: bigint): bigint;
  writeU8(hpa: bigint, value: number): void;
  writeU16(hpa: bigint, value: number): void;
  writeU32(hpa: bigint, value: number): void;
  writeU64(hpa: bigint, value: bigint): void;
}

/**
 * Field access to one structure in memory. `path` is a field, an element or a member: `state`, `irr[2]`,
 * `reason[10].fastpath`. Meant for set-up, reports and debuggers; hot paths keep offsets.
 */
export class StructView {
  readonly layout: StructLayout;
  readonly address: bigint;
  readonly #bytes: StructBytes;

  constructor(layout: StructLayout, bytes: StructBytes, address: bigint) {
    this.layout = layout;
    this.#bytes = bytes;
    this.address = address;
  }

  get(path: string): bigint {
    const { type, offset } = locate(this.layout, path);
    const at = this.address + BigInt(offset);
    switch (type) {
      case 'u8':
        return BigInt(this.#bytes.readU8(at));
      case 'u16':
        return BigInt(this.#bytes.readU16(at));
      case 'u32':
        return BigInt(this.#bytes.readU32(at));
      case 'u64':
        return this.#bytes.readU64(at);
    }
  }

  /** For fields of 32 bits and less. */
  number(path: string): number {
    const { type, offset } = locate(this.layout, path);
    const at = this.address + BigInt(offset);
    switch (type) {
      case 'u8':
        return this.#bytes.readU8(at);
      case 'u16':
        return this.#bytes.readU16(at);
      case 'u32':
        return this.#bytes.readU32(at);
      case 'u64':
        return Number.parseInt(this.#bytes.readU64(at).toString(), 10);
    }
  }

  set(path: string, value: bigint | number): void {
    const { type, offset } = locate(this.layout, path);
    const at = this.address + BigInt(offset);
    switch (type) {
      case 'u8': {
        this.#bytes.writeU8(at, Number.parseInt(value.toString(), 10));
        return;
      }
      case 'u16': {
        this.#bytes.writeU16(at, Number.parseInt(value.toString(), 10));
        return;
      }
      case 'u32': {
        this.#bytes.writeU32(at, Number.parseInt(value.toString(), 10));
        return;
      }
      case 'u64': {
        this.#bytes.writeU64(at, BigInt(value));
        return;
      }
    }
  }
}

const STEP = /^(\w+)(?:\[(\d+)\])?(?:\.(.+))?$/;

/** A scalar inside a structure. */
interface Located {
  readonly type: ScalarType;
  readonly offset: number;
}

const located = new WeakMap<StructLayout, Map<string, Located>>();

/** Resolves `reason[10].fastpath` to a scalar's offset. @throws HarnessBug for a path that leads nowhere. */
export function locate(layout: StructLayout, path: string): Located {
  let known = located.get(layout);
  if (known === undefined) {
    known = new Map();
    located.set(layout, known);
  }
  let found = known.get(path);
  if (found === undefined) {
    found = resolve(layout, path);
    known.set(path, found);
  }
  return found;
}

function resolve(layout: StructLayout, path: string): Located {
  const step = STEP.exec(path);
  if (step === null) throw new HarnessBug(`${layout.name}: bad path ${path}`);
  const field = fieldOf(layout, step[1]!);
  const index = Number.parseInt(step[2] ?? '0', 10);
  if (index >= field.count)
    throw new HarnessBug(`${layout.name}.${path}: index past ${field.count}`);
  const offset = field.offset + index * elementBytes(field);
  const rest = step[3];
  if (typeof field.type === 'string') {
    if (rest !== undefined) throw new HarnessBug(`${layout.name}.${path}: a scalar has no members`);
    return { type: field.type, offset };
  }
  if (rest === undefined) throw new HarnessBug(`${layout.name}.${path}: names a structure`);
  const inner = locate(field.type, rest);
  return { type: inner.type, offset: offset + inner.offset };
}

/** Every byte of a structure with its writer, for ownership checks; arrays of structures take the field's writer. */
export function writerMap(layout: StructLayout): readonly Writer[] {
  return layout.fields.flatMap((f) => new Array<Writer>(elementBytes(f) * f.count).fill(f.writer));
}
