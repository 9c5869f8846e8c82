/**
 * The ABI that a file shows: what its debug information lays out, and the versions in its .ccb.
 *
 * Invariant: a file without readable debug information is a finding, never an empty ABI.
 */
import { readFileSync, statSync } from 'node:fs';
import { CARETAKER_CCB } from '../../abi/ccb.js';
import { finding } from '../../abi/compat/rules.js';
import type { Finding } from '../../abi/compat/rules.js';
import type { AbiShape, FieldShape } from '../../abi/compat/shape.js';
import { LockError, readLockFile, shapeOfLock } from '../../abi/lock-file.js';
import { DebugInfo } from '../../loader/dwarf/debug-info.js';
import { DwarfError } from '../../loader/dwarf/errors.js';
import { readLayouts } from '../../loader/dwarf/layouts.js';
import type { Layouts } from '../../loader/dwarf/layouts.js';
import type { LayoutField } from '../../loader/dwarf/members.js';
import { readDebugSections, sectionBytes } from '../../loader/dwarf/sections.js';
import { CliUsageError, shownName, systemReason } from './errors.js';

const MAX_BYTES = 1 << 29;

/** The bytes of a file of any ELF kind. @throws CliUsageError FILE_UNREADABLE. */
export function readBinary(file: string): Uint8Array {
  try {
    const { size } = statSync(file);
    if (size <= MAX_BYTES) return new Uint8Array(readFileSync(file));
  } catch (cause) {
    const message = `${file}: cannot be read: ${systemReason(cause)}`;
    throw new CliUsageError('FILE_UNREADABLE', message, { file }, { cause });
  }
  const message = `${file}: cannot be read: larger than ${MAX_BYTES} bytes`;
  throw new CliUsageError('FILE_UNREADABLE', message, { file });
}

/** The layouts of a file. @throws DwarfError. */
export function layoutsOf(bytes: Uint8Array): Layouts {
  return readLayouts(new DebugInfo(readDebugSections(bytes)));
}

const BRACE = 0x7b;

/** The ABI of a file, a payload or a layout lock, or the finding that says why there is none. @throws LockError. */
export function abiOf(bytes: Uint8Array): AbiShape | Finding {
  if (bytes[0] === BRACE) return shapeOfLock(readLockFile(Buffer.from(bytes).toString('utf8')));
  try {
    const { structs, enumerations } = layoutsOf(bytes);
    const enumerators = enumerations.flatMap(({ name, enumerators: list }) =>
      list.map((one) => [one.name, { enumeration: name, value: one.value }] as const),
    );
    return {
      structs: structs.map(({ name, size, align, fields }) => ({
        name,
        size,
        align,
        fields: fields.flatMap((field) => flat(field)),
      })),
      constants: new Map(enumerators),
      versions: versionsOf(bytes),
    };
  } catch (error) {
    if (!(error instanceof DwarfError)) throw error;
    const rule = error.code === 'NO_DEBUG_INFO' ? 'debug-info-missing' : 'debug-info-bad';
    return finding(rule, '', '', 'debug information', `${error.code}: ${error.message}`);
  }
}

/** The ABI of a file's bytes. @throws LockError that names the file. */
export function abiOfFile(file: string, bytes: Uint8Array): AbiShape | Finding {
  try {
    return abiOf(bytes);
  } catch (cause) {
    if (!(cause instanceof LockError)) throw cause;
    const message = `${shownName(file)}: ${cause.message}`;
    throw new LockError(cause.code, message, { ...cause.details, file }, { cause });
  }
}

/** A field, and those inside it when its structure has no name by which it is compared. */
function flat(field: LayoutField, outer = ''): FieldShape[] {
  const { name, offset, size, bitOffset, bitSize } = field;
  const path = outer + name;
  const own = { name: path, offset, size, bitOffset, bitSize, canonical: plain(field.canonical) };
  return [own, ...(field.fields ?? []).flatMap((inner) => flat(inner, `${path}.`))];
}

/** An enumeration as a field's type is the integer that holds it. */
function plain(canonical: string): string {
  return canonical.replace(/^enum .*:(u\d+)/, '$1');
}

function versionsOf(bytes: Uint8Array): AbiShape['versions'] {
  const ccb = sectionBytes(bytes, '.ccb');
  if (ccb === undefined || ccb.length < 16) return new Map();
  const view = new DataView(ccb.buffer, ccb.byteOffset, ccb.byteLength);
  const header = { magic: view.getBigUint64(0, true), version: view.getUint32(8, true) };
  return new Map([[CARETAKER_CCB.name, header]]);
}
