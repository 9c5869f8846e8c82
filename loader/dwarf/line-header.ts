/**
 * The header of a line table: directories, files, and how its opcodes count.
 *
 * Source: DWARF 5, "The Line Number Program Header"; DWARF 4 for tables before version 5.
 */
import { DW_FORM } from './constants.js';
import { Cursor } from './cursor.js';
import type { DebugInfo } from './debug-info.js';
import { refuseDwarf } from './errors.js';
import { readInitialLength } from './unit.js';

/** A source file as the table names it; `path` has its directory before it. */
export interface SourceFile {
  readonly name: string;
  readonly path: string;
}

/** What the line program needs, and the files that its rows name by number. */
export interface LineHeader {
  readonly version: number;
  readonly minimumLength: number;
  readonly defaultIsStatement: boolean;
  readonly lineBase: number;
  readonly lineRange: number;
  readonly opcodeBase: number;
  readonly operandCounts: readonly number[];
  /** By the number that a row has: from 1 before version 5, from 0 since. */
  readonly files: readonly (SourceFile | undefined)[];
  readonly program: Cursor;
}

const SECTION = '.debug_line';
const DW_LNCT = { path: 1, directory: 2 } as const;

/** Reads the header at `offset`; `compilationDirectory` is that of the unit. @throws DwarfError. */
export function readLineHeader(
  info: DebugInfo,
  offset: number,
  compilationDirectory: string,
): LineHeader {
  const start = info.section(SECTION, offset);
  const { length, offsetBytes } = readInitialLength(start);
  const end = start.offset + length;
  if (end > start.bytes.length) refuse('longer than its section', offset);
  const cursor = new Cursor(SECTION, start.bytes, start.offset, end);
  const version = cursor.u16();
  if (version < 2 || version > 5) {
    refuseDwarf('UNSUPPORTED_VERSION', `a line table of version ${version}`, {
      section: SECTION,
      offset,
    });
  }
  if (version >= 5) cursor.skip(2);
  const programStart = cursor.unsigned(offsetBytes) + cursor.offset;
  const minimumLength = cursor.u8();
  if (version >= 4) cursor.skip(1);
  const defaultIsStatement = cursor.u8() !== 0;
  const lineBase = cursor.s8();
  const lineRange = cursor.u8();
  const opcodeBase = cursor.u8();
  if (lineRange === 0 || opcodeBase === 0) refuse('a line range or opcode base of 0', offset);
  const operandCounts = [0, ...Array.from({ length: opcodeBase - 1 }, () => cursor.u8())];
  const files =
    version >= 5
      ? readTables(info, cursor, offsetBytes, compilationDirectory)
      : readLists(info, cursor, compilationDirectory);
  if (programStart > end) refuse('the program begins after its end', offset);
  const program = new Cursor(SECTION, start.bytes, programStart, end);
  // prettier-ignore
  return { version, minimumLength, defaultIsStatement, lineBase, lineRange, opcodeBase, operandCounts, files, program };
}

/** Directories and files up to version 4. */
function readLists(
  info: DebugInfo,
  cursor: Cursor,
  compilationDirectory: string,
): (SourceFile | undefined)[] {
  const directories = [compilationDirectory];
  for (let name = cursor.string(); name !== ''; name = cursor.string()) {
    info.budget.spend(1 + name.length);
    directories.push(joined(compilationDirectory, name));
  }
  const files: (SourceFile | undefined)[] = [undefined];
  for (let name = cursor.string(); name !== ''; name = cursor.string()) {
    const directory = directories[cursor.index()] ?? '';
    info.budget.spend(1 + name.length + directory.length);
    cursor.skipLeb();
    cursor.skipLeb();
    files.push({ name, path: joined(directory, name) });
  }
  return files;
}

/** Directories and files since version 5. */
function readTables(
  info: DebugInfo,
  cursor: Cursor,
  offsetBytes: number,
  compilationDirectory: string,
): SourceFile[] {
  const read = (): { name: string; directory: number }[] => {
    const format = Array.from({ length: cursor.u8() }, () => {
      return { content: cursor.index(), form: cursor.index() };
    });
    const count = cursor.index();
    const entries: { name: string; directory: number }[] = [];
    for (let number = 0; number < count; number++) {
      info.budget.spend(1 + format.length);
      const entry = { name: '', directory: 0 };
      for (const { content, form } of format) {
        const value = readEntryValue(info, cursor, form, offsetBytes);
        if (content === DW_LNCT.path && typeof value === 'string') entry.name = value;
        if (content === DW_LNCT.directory && typeof value === 'number') entry.directory = value;
      }
      info.budget.spend(entry.name.length);
      entries.push(entry);
    }
    return entries;
  };
  const directories = read().map(({ name }) => joined(compilationDirectory, name));
  return read().map(({ name, directory }) => {
    info.budget.spend(directories[directory]?.length ?? 0);
    return { name, path: joined(directories[directory] ?? '', name) };
  });
}

function readEntryValue(
  info: DebugInfo,
  cursor: Cursor,
  form: number,
  offsetBytes: number,
): string | number | undefined {
  // prettier-ignore
  switch (form) {
    case DW_FORM.string: return cursor.string();
    case DW_FORM.line_strp: return info.stringAt('.debug_line_str', cursor.unsigned(offsetBytes));
    case DW_FORM.strp: return info.stringAt('.debug_str', cursor.unsigned(offsetBytes));
    case DW_FORM.data1: return cursor.u8();
    case DW_FORM.data2: return cursor.u16();
    case DW_FORM.data4: return cursor.u32();
    case DW_FORM.udata: return cursor.index();
    case DW_FORM.data8: cursor.skip(8); return undefined;
    case DW_FORM.data16: cursor.skip(16); return undefined;
    case DW_FORM.block: cursor.skip(cursor.index()); return undefined;
    default: return refuseDwarf('BAD_FORM', `form ${form} in a line table`, { section: SECTION, offset: cursor.offset });
  }
}

function joined(directory: string, name: string): string {
  return name.startsWith('/') || directory === '' ? name : `${directory}/${name}`;
}

function refuse(message: string, offset: number): never {
  refuseDwarf('BAD_LINE_PROGRAM', message, { section: SECTION, offset });
}
