/**
 * The ELF header: what kind of file this is and where its two tables are.
 *
 * Source: System V ABI, "ELF Header"; x86-64 psABI, "Machine Information".
 * Invariant: after checkHeader() both tables lie inside the file and their counts are within LIMITS.
 * Not modelled: extended numbering (PN_XNUM, section count in the first section header): it is for larger files.
 */
import { hex, toIndex } from '../../abi/uint.js';
import { ELF } from '../elf-constants.js';
import { refuse } from '../errors.js';
import type { LoaderErrorCode } from '../errors.js';
import type { FileBytes } from '../file-bytes.js';
import { LIMITS } from '../limits.js';

/** The header's fields that later checks use. */
export interface Header {
  readonly type: 'ET_DYN' | 'ET_EXEC';
  readonly entry: bigint;
  readonly programOffset: number;
  readonly programCount: number;
  readonly sectionOffset: number;
  readonly sectionCount: number;
  readonly nameTableIndex: number;
}

type Field = readonly [
  code: LoaderErrorCode,
  name: string,
  offset: number,
  sizeBytes: 1 | 2 | 4,
  allowed: readonly number[],
];

// prettier-ignore
const FIELDS: readonly Field[] = [
  ['ELF_NOT_64_BIT',        'EI_CLASS',      4,  1, [ELF.ELFCLASS64]],
  ['ELF_NOT_LITTLE_ENDIAN', 'EI_DATA',       5,  1, [ELF.ELFDATA2LSB]],
  ['ELF_BAD_VERSION',       'EI_VERSION',    6,  1, [ELF.EV_CURRENT]],
  ['ELF_BAD_OSABI',         'EI_OSABI',      7,  1, [ELF.ELFOSABI_SYSV, ELF.ELFOSABI_GNU]],
  ['ELF_BAD_OSABI',         'EI_ABIVERSION', 8,  1, [0]],
  ['ELF_BAD_TYPE',          'e_type',        16, 2, [ELF.ET_DYN, ELF.ET_EXEC]],
  ['ELF_BAD_MACHINE',       'e_machine',     18, 2, [ELF.EM_X86_64]],
  ['ELF_BAD_VERSION',       'e_version',     20, 4, [ELF.EV_CURRENT]],
  ['ELF_BAD_FLAGS',         'e_flags',       48, 4, [0]],
  ['ELF_BAD_HEADER_SIZE',   'e_ehsize',      52, 2, [ELF.EHDR_BYTES]],
  ['ELF_BAD_HEADER_SIZE',   'e_phentsize',   54, 2, [ELF.PHDR_BYTES]],
  ['ELF_BAD_HEADER_SIZE',   'e_shentsize',   58, 2, [ELF.SHDR_BYTES]],
];

const MAGIC = 0x464c457f;
const READ = { 1: 'u8', 2: 'u16', 4: 'u32' } as const;

/** Checks the file's size, its header and the extent of its tables. @throws LoaderError */
export function checkHeader(file: FileBytes): Header {
  if (file.length > LIMITS.fileBytes) {
    const evidence = { expected: LIMITS.fileBytes, actual: file.length };
    refuse('FILE_TOO_LARGE', `the file has ${file.length} bytes`, evidence);
  }
  if (file.length < ELF.EHDR_BYTES) {
    const evidence = { offset: file.length, expected: ELF.EHDR_BYTES, actual: file.length };
    refuse('FILE_TOO_SHORT', `the file has ${file.length} bytes, an ELF64 header has 64`, evidence);
  }
  if (file.u32(0) !== MAGIC) {
    const evidence = { offset: 0, expected: hex(MAGIC), actual: hex(file.u32(0)) };
    refuse('ELF_BAD_MAGIC', 'the file does not begin with the ELF magic', evidence);
  }
  for (const [code, name, offset, sizeBytes, allowed] of FIELDS) {
    const actual = file[READ[sizeBytes]](offset);
    if (allowed.includes(actual)) continue;
    const expected = allowed.join(' or ');
    refuse(code, `${name} is ${actual}, expected ${expected}`, { offset, expected, actual });
  }
  const [programOffset, programCount] = checkTable(file, PROGRAM_HEADERS);
  const [sectionOffset, sectionCount] = checkTable(file, SECTION_HEADERS);
  return {
    type: file.u16(16) === ELF.ET_DYN ? 'ET_DYN' : 'ET_EXEC',
    entry: file.u64(24),
    ...{ programOffset, programCount, sectionOffset, sectionCount },
    nameTableIndex: file.u16(62),
  };
}

interface Table {
  readonly name: string;
  /** Where the header holds the table's file offset and its number of entries. */
  readonly startAt: number;
  readonly countAt: number;
  readonly entryBytes: number;
  readonly limit: number;
  readonly codes: Readonly<Record<'missing' | 'tooMany' | 'outside', LoaderErrorCode>>;
}

const PROGRAM_HEADERS: Table = {
  ...{ name: 'program headers', startAt: 32, countAt: 56 },
  ...{ entryBytes: ELF.PHDR_BYTES, limit: LIMITS.programHeaders },
  codes: {
    missing: 'PROGRAM_HEADERS_MISSING',
    tooMany: 'PROGRAM_HEADERS_TOO_MANY',
    outside: 'PROGRAM_HEADERS_OUTSIDE_FILE',
  },
};

const SECTION_HEADERS: Table = {
  ...{ name: 'section headers', startAt: 40, countAt: 60 },
  ...{ entryBytes: ELF.SHDR_BYTES, limit: LIMITS.sections },
  codes: {
    missing: 'SECTION_HEADERS_MISSING',
    tooMany: 'SECTION_HEADERS_TOO_MANY',
    outside: 'SECTION_HEADERS_OUTSIDE_FILE',
  },
};

function checkTable(file: FileBytes, table: Table): readonly [start: number, count: number] {
  const { name, startAt, countAt, limit, codes } = table;
  const start = file.u64(startAt);
  const count = file.u16(countAt);
  if (count === 0) refuse(codes.missing, `there are no ${name}`, { offset: countAt, actual: 0 });
  if (count > limit) {
    const evidence = { offset: countAt, expected: `at most ${limit}`, actual: count };
    refuse(codes.tooMany, `there are ${count} ${name}`, evidence);
  }
  if (start < BigInt(ELF.EHDR_BYTES) || !file.contains(start, BigInt(count * table.entryBytes))) {
    const message = `${count} ${name} at ${hex(start)} in a file of ${file.length} bytes`;
    refuse(codes.outside, message, { offset: startAt, actual: hex(start) });
  }
  return [toIndex(start), count];
}
