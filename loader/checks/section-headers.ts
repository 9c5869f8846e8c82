/**
 * Section headers as the file has them, with their names, and the checks that look at one section alone.
 *
 * Source: System V ABI, "Sections" and "String Table".
 * Invariant: what leaves here has its bytes inside the file, disjoint from every other section's, and a unique name.
 */
import { hex, toIndex } from '../../abi/uint.js';
import { ELF, SHF, SHT } from '../elf-constants.js';
import { refuse } from '../errors.js';
import type { FileBytes, FileRange } from '../file-bytes.js';
import { LIMITS } from '../limits.js';
import type { Header } from './header.js';
import { ENTRY_SIZES } from './section-rules.js';

/** A section header inside its bounds; `at` is the file offset of the header itself. */
export interface SectionHeader {
  readonly at: number;
  readonly name: string;
  readonly type: number;
  readonly flags: bigint;
  readonly address: bigint;
  /** File offset; the bytes are `[offset, offset + sizeBytes)` unless the type is SHT_NOBITS. */
  readonly offset: number;
  readonly sizeBytes: number;
  readonly link: number;
  readonly alignment: bigint;
  readonly entrySizeBytes: bigint;
  readonly isAllocated: boolean;
}

// prettier-ignore
export const FIELD = {
  name: 0, type: 4, flags: 8, address: 16, offset: 24, size: 32, link: 40, alignment: 48, entrySize: 56,
} as const;

const NAME = /^[!-~]*$/;

/** Reads every section header but the null one at index 0, which stays as an empty entry. @throws LoaderError */
export function readSectionHeaders(file: FileBytes, header: Header): readonly SectionHeader[] {
  const names = nameTable(file, header);
  const sections = Array.from({ length: header.sectionCount }, (_, index) =>
    readSectionHeader(file, header.sectionOffset + index * ELF.SHDR_BYTES, index, names),
  );
  const seen = new Set<string>();
  for (const { at, name } of sections.slice(1)) {
    if (seen.has(name)) {
      refuse('SECTION_DUPLICATE', `a second section is named ${name}`, {
        offset: at,
        actual: name,
      });
    }
    seen.add(name);
  }
  checkFileOverlap(sections);
  return sections;
}

function nameTable(file: FileBytes, header: Header): FileRange {
  const index = header.nameTableIndex;
  const evidence = { offset: 62, actual: index };
  if (index === 0 || index >= header.sectionCount) {
    refuse('SECTION_NAME_TABLE_BAD', `e_shstrndx is ${index}`, evidence);
  }
  const at = header.sectionOffset + index * ELF.SHDR_BYTES;
  const start = file.u64(at + FIELD.offset);
  const size = file.u64(at + FIELD.size);
  const isWhole =
    file.u32(at + FIELD.type) === SHT.STRTAB &&
    size > 0n &&
    file.contains(start, size) &&
    file.u8(toIndex(start + size) - 1) === 0;
  if (!isWhole) {
    refuse('SECTION_NAME_TABLE_BAD', `section ${index} is no terminated string table`, evidence);
  }
  return { start: toIndex(start), end: toIndex(start + size) };
}

function readSectionHeader(
  file: FileBytes,
  at: number,
  index: number,
  names: FileRange,
): SectionHeader {
  const type = file.u32(at + FIELD.type);
  if ((type === SHT.NULL) !== (index === 0)) {
    const evidence = { offset: at + FIELD.type, actual: type };
    refuse('SECTION_BAD_TYPE', `section ${index} has type ${hex(type)}`, evidence);
  }
  const name = file.string(names, file.u32(at + FIELD.name), LIMITS.sectionNameChars);
  if (name === undefined || !NAME.test(name) || (name === '') !== (index === 0)) {
    const evidence = { offset: at + FIELD.name, actual: file.u32(at + FIELD.name) };
    refuse('SECTION_NAME_BAD', `section ${index} has no proper name`, evidence);
  }
  const flags = file.u64(at + FIELD.flags);
  const size = file.u64(at + FIELD.size);
  const offset = file.u64(at + FIELD.offset);
  const isAllocated = (flags & SHF.ALLOC) !== 0n;
  if (type === SHT.NOBITS && !isAllocated) {
    const evidence = { offset: at + FIELD.type, actual: type };
    refuse('SECTION_BAD_TYPE', `${name} has neither bytes nor memory`, evidence);
  }
  const isBounded =
    type === SHT.NOBITS ? size <= BigInt(LIMITS.imageBytes) : file.contains(offset, size);
  if (!isBounded) {
    refuse('SECTION_OUTSIDE_FILE', `${name} has ${hex(size)} bytes at ${hex(offset)} of the file`, {
      offset: at + FIELD.offset,
      expected: `at most ${hex(file.length)}`,
      actual: hex(offset),
    });
  }
  return {
    at,
    name,
    type,
    flags,
    address: file.u64(at + FIELD.address),
    offset: type === SHT.NOBITS ? 0 : toIndex(offset),
    sizeBytes: toIndex(size),
    link: file.u32(at + FIELD.link),
    alignment: checkAlignment(file, at, name),
    entrySizeBytes: checkEntrySize(file, at, name, type, size),
    isAllocated,
  };
}

function checkAlignment(file: FileBytes, at: number, name: string): bigint {
  const alignment = file.u64(at + FIELD.alignment);
  const address = file.u64(at + FIELD.address);
  const isPower = (alignment & (alignment - 1n)) === 0n;
  if (alignment === 0n || (isPower && address % alignment === 0n)) return alignment;
  refuse('SECTION_BAD_ALIGNMENT', `${name} at ${hex(address)} is aligned to ${hex(alignment)}`, {
    offset: at + FIELD.alignment,
    actual: hex(alignment),
  });
}

function checkEntrySize(
  file: FileBytes,
  at: number,
  name: string,
  type: number,
  size: bigint,
): bigint {
  const entrySize = file.u64(at + FIELD.entrySize);
  const expected = ENTRY_SIZES.get(type);
  if (expected === undefined || (entrySize === expected && size % expected === 0n)) {
    return entrySize;
  }
  refuse(
    'SECTION_BAD_ENTRY_SIZE',
    `${name} has ${hex(size)} bytes in entries of ${hex(entrySize)}`,
    {
      offset: at + FIELD.entrySize,
      expected: hex(expected),
      actual: hex(entrySize),
    },
  );
}

/** Also what bounds the cost of copying: all sections together have no more bytes than the file. */
function checkFileOverlap(sections: readonly SectionHeader[]): void {
  const inFile = sections
    .filter((section) => section.type !== SHT.NOBITS && section.sizeBytes > 0)
    .sort((a, b) => a.offset - b.offset);
  inFile.slice(1).forEach((section, index) => {
    const before = inFile[index]!;
    if (section.offset >= before.offset + before.sizeBytes) return;
    refuse('SECTIONS_OVERLAP', `${section.name} begins inside ${before.name} in the file`, {
      offset: section.at + FIELD.offset,
      expected: `at least ${hex(before.offset + before.sizeBytes)}`,
      actual: hex(section.offset),
    });
  });
}
