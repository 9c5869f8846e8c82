/**
 * The debug sections of a file: of a payload image, or of any x86-64 ELF file, linked or not.
 *
 * Source: the ELF-64 gABI (section headers, SHF_COMPRESSED), the x86-64 psABI (relocations of a .o file).
 * Invariant: refused with a DwarfError or read; the bytes are never those of another section.
 * Not modelled: zstd, .zdebug_ names, supplementary files, split DWARF.
 */
import { inflateSync } from 'node:zlib';
import { low32, toIndex, u64 } from '../../abi/uint.js';
import { decode } from './cursor.js';
import { refuseDwarf } from './errors.js';

/** Bytes of the sections that describe the program, by name. */
export type DebugSections = ReadonlyMap<string, Uint8Array>;

const SHT = { SYMTAB: 2, RELA: 4, NOBITS: 8 } as const;
const SHF_COMPRESSED = 0x800n;
const ELFCOMPRESS_ZLIB = 1;
const HEADER_BYTES = 64;
const COMPRESSION_HEADER_BYTES = 24;
const MAX_SECTIONS = 1 << 16;
/** zlib cannot do better than about 1 : 1032. */
const MAX_RATIO = 1032;
/** Sections of a file may have that much in all, or eight times the size of the file. */
const LARGE_ENOUGH = 64 << 20;
const ET_REL = 1;
const R_X86_64 = { 64: 1, 32: 10, '32S': 11 } as const;

/** A section header; `offset` and `size` as far as a file can be long. */
export interface SectionEntry {
  readonly name: string;
  readonly type: number;
  readonly flags: bigint;
  readonly address: bigint;
  readonly offset: number;
  readonly size: number;
  readonly link: number;
  readonly info: number;
}

const isWanted = (name: string): boolean => name.startsWith('.debug_') || name === '.eh_frame';

/** The sections of an image that the loader accepted. */
export function sectionsOfImage(image: {
  readonly sections: readonly { readonly name: string; readonly bytes: Uint8Array }[];
}): DebugSections {
  return new Map(
    image.sections.filter(({ name }) => isWanted(name)).map(({ name, bytes }) => [name, bytes]),
  );
}

/** The sections of any x86-64 ELF file. @throws DwarfError NOT_ELF, BAD_SECTION, BAD_COMPRESSION. */
export function readDebugSections(file: Uint8Array): DebugSections {
  const headers = readSectionTable(file);
  const isObject = file[16] === ET_REL;
  const relocations = new Map<number, SectionEntry>();
  for (const header of headers) {
    if (isObject && header.type === SHT.RELA) relocations.set(header.info, header);
  }
  const parts = new Map<string, Uint8Array[]>();
  let left = Math.max(LARGE_ENOUGH, file.length * 8);
  headers.forEach((header, index) => {
    if (!isWanted(header.name) || header.type === SHT.NOBITS) return;
    const raw = sectionContents(file, header);
    const bytes = (header.flags & SHF_COMPRESSED) === 0n ? raw : inflate(header, raw, left);
    left -= bytes.length;
    if (left < 0) refuseDwarf('BAD_SECTION', 'sections overlap', { section: header.name });
    const rela = relocations.get(index);
    const whole = rela === undefined ? bytes : relocated(file, headers, rela, bytes);
    // An unlinked file has a section of the same name a type unit.
    const pieces = parts.get(header.name);
    if (pieces === undefined) parts.set(header.name, [whole]);
    else pieces.push(whole);
  });
  return new Map([...parts].map(([name, pieces]) => [name, concatenated(pieces)]));
}

/** The bytes of one section of any x86-64 ELF file, as they are in the file. @throws DwarfError. */
export function sectionBytes(file: Uint8Array, name: string): Uint8Array | undefined {
  const header = readSectionTable(file).find((one) => one.name === name && one.type !== SHT.NOBITS);
  return header && sectionContents(file, header);
}

/** The section headers of any x86-64 ELF file. @throws DwarfError NOT_ELF, BAD_SECTION. */
export function readSectionTable(file: Uint8Array): SectionEntry[] {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const isElf =
    file.length >= HEADER_BYTES &&
    view.getUint32(0) === 0x7f454c46 &&
    file[4] === 2 &&
    file[5] === 1;
  if (!isElf) refuseDwarf('NOT_ELF', 'no ELF64 header', { offset: 0 });
  const table = offsetOf(view, 40);
  const stated = view.getUint16(60, true);
  const count = stated === 0 ? countInFirst(view, table) : stated;
  if (view.getUint16(58, true) !== 64 || count > MAX_SECTIONS || table + count * 64 > file.length) {
    refuseDwarf('BAD_SECTION', 'the section header table is not in the file', { offset: 40 });
  }
  const headers = Array.from({ length: count }, (_, index) => {
    const at = table + index * 64;
    return {
      nameOffset: view.getUint32(at, true),
      type: view.getUint32(at + 4, true),
      flags: view.getBigUint64(at + 8, true),
      address: view.getBigUint64(at + 16, true),
      offset: offsetOf(view, at + 24),
      size: offsetOf(view, at + 32),
      link: view.getUint32(at + 40, true),
      info: view.getUint32(at + 44, true),
    };
  });
  const index = view.getUint16(62, true);
  const names = headers[index === 0xffff ? (headers[0]?.link ?? 0) : index];
  const namesEnd = names === undefined ? 0 : Math.min(names.offset + names.size, file.length);
  return headers.map(({ nameOffset, ...header }) => {
    const start = Math.min((names?.offset ?? 0) + nameOffset, namesEnd);
    const nul = file.subarray(start, Math.min(namesEnd, start + 256)).indexOf(0);
    return { ...header, name: decode(file, start, start + Math.max(nul, 0)) };
  });
}

/** An e_shnum of 0 stands for sh_size of the first header. */
function countInFirst(view: DataView, table: number): number {
  return table > 0 && table + 64 <= view.byteLength ? offsetOf(view, table + 32) : 0;
}

function offsetOf(view: DataView, at: number): number {
  const value = view.getBigUint64(at, true);
  return value < 1n << 48n ? toIndex(value) : Number.MAX_SAFE_INTEGER;
}

/** The bytes of a section that has some in the file. @throws DwarfError BAD_SECTION. */
export function sectionContents(
  file: Uint8Array,
  { name, offset, size }: SectionEntry,
): Uint8Array {
  if (offset + size > file.length) {
    refuseDwarf('BAD_SECTION', `${name} is not all in the file`, { section: name, offset });
  }
  return file.subarray(offset, offset + size);
}

function inflate({ name, offset }: SectionEntry, raw: Uint8Array, limit: number): Uint8Array {
  const where = { section: name, offset };
  if (raw.length < COMPRESSION_HEADER_BYTES) refuseDwarf('BAD_COMPRESSION', 'no header', where);
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  const size = offsetOf(view, 8);
  const isSane = size <= limit && size <= raw.length * MAX_RATIO;
  if (view.getUint32(0, true) !== ELFCOMPRESS_ZLIB || !isSane) {
    refuseDwarf('BAD_COMPRESSION', `${name}: compressed another way or too far`, where);
  }
  try {
    const bytes = inflateSync(raw.subarray(COMPRESSION_HEADER_BYTES), {
      maxOutputLength: Math.max(size, 1),
    });
    if (bytes.length === size) return new Uint8Array(bytes);
  } catch (cause) {
    refuseDwarf('BAD_COMPRESSION', `${name}: zlib refuses it`, where, cause);
  }
  return refuseDwarf('BAD_COMPRESSION', `${name}: another size than its header says`, where);
}

/** A copy with the relocations of an unlinked file applied. */
function relocated(
  file: Uint8Array,
  headers: readonly SectionEntry[],
  rela: SectionEntry,
  bytes: Uint8Array,
): Uint8Array {
  const symbols = headers[rela.link];
  if (symbols?.type !== SHT.SYMTAB) return bytes;
  const entries = viewOf(sectionContents(file, rela));
  const table = viewOf(sectionContents(file, symbols));
  const copy = new Uint8Array(bytes);
  const out = viewOf(copy);
  for (let at = 0; at + 24 <= entries.byteLength; at += 24) {
    const offset = offsetOf(entries, at);
    const info = entries.getBigUint64(at + 8, true);
    const symbol = toIndex(info >> 32n) * 24;
    const known = symbol + 24 <= table.byteLength ? table.getBigUint64(symbol + 8, true) : 0n;
    const value = u64(known + entries.getBigUint64(at + 16, true));
    const type = low32(info);
    const width =
      type === R_X86_64[64] ? 8 : type === R_X86_64[32] || type === R_X86_64['32S'] ? 4 : 0;
    if (offset + width > copy.length) continue;
    if (width === 8) out.setBigUint64(offset, value, true);
    if (width === 4) out.setUint32(offset, low32(value), true);
  }
  return copy;
}

function concatenated(pieces: readonly Uint8Array[]): Uint8Array {
  if (pieces.length === 1) return pieces[0]!;
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
