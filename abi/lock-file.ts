/**
 * A layout lock as a file: read with every field checked, and as the shape that `abi diff` compares.
 *
 * Source: what currentLock() writes. Records that one kernel writes for the next are in here and in no payload's DWARF.
 * Invariant: reading ends in a lock or in a LockError that names the field and the rule.
 */
import { HarnessError } from './errors.js';
import type { LayoutLock } from './lock.js';
import type { AbiShape, FieldShape, StructShape } from './compat/shape.js';

/** LOCK_JSON: no JSON; LOCK_FIELD: a field is missing or is no such thing. */
export type LockErrorCode = 'LOCK_JSON' | 'LOCK_FIELD';
/** A lock file that cannot be used. */
export class LockError extends HarnessError<LockErrorCode> {}

const SCALARS: Readonly<Record<string, number>> = { u8: 1, u16: 2, u32: 4, u64: 8 };
const MAX_BYTES = 1 << 24;

type Fields = Readonly<Record<string, unknown>>;

/** Reads a lock file. @throws LockError. */
export function readLockFile(text: string): LayoutLock {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : '';
    throw new LockError('LOCK_JSON', `no JSON: ${reason}`, {}, { cause });
  }
  const lock = objectAt(value, '');
  for (const [name, constant] of entriesAt(lock, 'constants')) {
    wholeAt(constant, `constants.${name}`);
  }
  for (const [name, one] of entriesAt(lock, 'structs')) {
    const path = `structs.${name}`;
    versionAt(one, path);
    for (const [inner, layout] of entriesAt(objectAt(one, path), 'layouts', path)) {
      layoutAt(layout, `${path}.layouts.${inner}`);
    }
  }
  for (const [name, one] of entriesAt(lock, 'records')) {
    const path = `records.${name}`;
    versionAt(one, path);
    const { compatible, layout } = objectAt(one, path);
    if (typeof compatible !== 'string') wrong(`${path}.compatible`, 'a string is wanted');
    layoutAt(layout, `${path}.layout`);
  }
  // SAFETY: every field of the type was looked at above.
  return value as LayoutLock;
}

/** The structures, records, constants and versions of a lock. @throws LockError for a field of an unknown type. */
export function shapeOfLock(lock: LayoutLock): AbiShape {
  const layouts = new Map([
    ...Object.values(lock.structs).flatMap((one) => Object.entries(one.layouts)),
    ...Object.entries(lock.records).map(([name, { layout }]) => [name, layout] as const),
  ]);
  const sizes = new Map([...layouts].map(([name, { sizeBytes }]) => [name, sizeBytes]));
  const structs = [...layouts].map(([name, { sizeBytes, fields }]): StructShape => {
    const own = Object.entries(fields).map(([field, text]) => fieldOf(name, field, text, sizes));
    return { name, size: sizeBytes, align: null, fields: own };
  });
  const versions = [...Object.entries(lock.structs), ...Object.entries(lock.records)];
  return {
    structs,
    constants: new Map(
      Object.entries(lock.constants).map(([name, value]) => [
        name,
        { enumeration: 'contract', value: BigInt(value) },
      ]),
    ),
    versions: new Map(
      versions.map(([name, one]) => {
        const compatible = 'compatible' in one ? { compatible: one.compatible } : {};
        return [name, { magic: BigInt(one.magic), version: one.version, ...compatible }];
      }),
    ),
  };
}

const FIELD = /^(\w+)\*(\d{1,8})@(\d{1,8})$/;

function fieldOf(
  struct: string,
  name: string,
  text: string,
  sizes: ReadonlyMap<string, number>,
): FieldShape {
  const [, type = '', count = '', offset = ''] = FIELD.exec(text) ?? [];
  const scalar = Object.hasOwn(SCALARS, type) ? SCALARS[type] : undefined;
  const size = scalar ?? sizes.get(type);
  if (size === undefined) wrong(`${struct}.${name}`, `no type ${type} in the lock`);
  const base = scalar === undefined ? `struct ${type}` : type;
  const elements = Number.parseInt(count, 10);
  return {
    name,
    offset: Number.parseInt(offset, 10),
    size: size * elements,
    canonical: elements > 1 ? `${base}[${elements}]` : base,
    bitOffset: null,
    bitSize: null,
  };
}

function wrong(path: string, rule: string): never {
  throw new LockError('LOCK_FIELD', `${path === '' ? 'the lock' : path}: ${rule}`, { path, rule });
}

function objectAt(value: unknown, path: string): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields;
  return wrong(path, 'an object is wanted');
}

function entriesAt(object: Fields, name: string, path = ''): (readonly [string, unknown])[] {
  const here = path === '' ? name : `${path}.${name}`;
  return Object.entries(objectAt(Object.hasOwn(object, name) ? object[name] : undefined, here));
}

function wholeAt(value: unknown, path: string): void {
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) {
    wrong(path, 'a whole number is wanted');
  }
}

function versionAt(value: unknown, path: string): void {
  const { magic, version } = objectAt(value, path);
  if (typeof magic !== 'string' || !/^0x[0-9a-f]{1,16}$/.test(magic)) {
    wrong(`${path}.magic`, 'a number of 64 bits in hex is wanted');
  }
  wholeAt(version, `${path}.version`);
}

function layoutAt(value: unknown, path: string): void {
  const layout = objectAt(value, path);
  const { sizeBytes } = layout;
  wholeAt(sizeBytes, `${path}.sizeBytes`);
  if ((sizeBytes as number) < 0 || (sizeBytes as number) > MAX_BYTES) {
    wrong(`${path}.sizeBytes`, `at most ${MAX_BYTES} bytes`);
  }
  for (const [name, text] of entriesAt(layout, 'fields', path)) {
    if (typeof text !== 'string' || !FIELD.test(text)) {
      wrong(`${path}.fields.${name}`, 'type*count@offset is wanted');
    }
  }
}
