/**
 * One broken rule a row: what is changed in a valid payload and the code it is refused with.
 *
 * `spec` changes the specification before it is assembled, `bytes` changes one field of the file.
 */
import type { LoaderErrorCode } from '../../loader/errors.js';
import { minimalExec, minimalPayload } from '../support/elf-builder.js';
import type { ElfFile, ElfSpec, SectionSpec, SegmentName } from '../support/elf-builder.js';

export interface RefusalRow {
  readonly code: LoaderErrorCode;
  readonly when: string;
  readonly spec?: (spec: ElfSpec) => void;
  readonly from?: () => ElfSpec;
  readonly bytes?: (elf: ElfFile) => void;
}

const U64_MAX = (1n << 64n) - 1n;
const [RO, TEXT, DATA, DYNAMIC, NOTE, STACK, EXTRA] = [0, 1, 2, 3, 4, 5, 6];
const DT = {
  HASH: 4,
  STRSZ: 10,
  SYMENT: 11,
  DEBUG: 21,
  RELA: 7,
  RELASZ: 8,
  RELAENT: 9,
  COUNT: 0x6ffffff9,
};

/** A section of `spec`, to be changed. */
const section = (spec: ElfSpec, name: string): SectionSpec =>
  spec.sections.find((s) => s.name === name)!;

/** Adds a section before .text (or at the end of its segment). */
const add =
  (name: string, segment: SegmentName | null, size: number, more: Partial<SectionSpec> = {}) =>
  (spec: ElfSpec): void => {
    const bytes = new Uint8Array(size);
    const before = spec.sections.findIndex((s) => s.name === '.text');
    // prettier-ignore
    spec.sections.splice(segment === 'ro' ? before : before + 1, 0, {
    name, segment, type: 1, flags: 0, alignment: 8, entrySize: 0, link: null, bytes, ...more,
  });
  };

const drop =
  (name: string) =>
  (spec: ElfSpec): void => {
    spec.sections = spec.sections.filter((s) => s.name !== name);
  };

/** Makes DT_DEBUG, which nothing reads, into another tag. */
const tag =
  (value: number) =>
  (elf: ElfFile): void =>
    elf.dyn(DT.DEBUG, 'tag', value);

const both =
  (...changes: readonly ((elf: ElfFile) => void)[]) =>
  (elf: ElfFile): void => {
    for (const change of changes) change(elf);
  };

const describeSection =
  (type: number, name: string) =>
  (spec: ElfSpec): void => {
    spec.programHeaders.push({ type, flags: 4, section: name });
  };

/** Puts the file at `size` bytes, all added ones zero. */
const grow =
  (size: number) =>
  (elf: ElfFile): void => {
    const bytes = new Uint8Array(size);
    bytes.set(elf.bytes.subarray(0, size));
    elf.bytes = bytes;
  };

// prettier-ignore
export const REFUSALS: readonly RefusalRow[] = [
  // The file and its header.
  { code: 'FILE_TOO_LARGE', when: 'it has 4 MiB and a byte', bytes: grow(4 * 1024 * 1024 + 1) },
  { code: 'FILE_TOO_SHORT', when: 'it ends inside the header', bytes: grow(63) },
  { code: 'FILE_TOO_SHORT', when: 'it is empty', bytes: grow(0) },
  { code: 'ELF_BAD_MAGIC', when: 'the magic is another', bytes: (e) => e.ehdr('magic', 0x464c457e) },
  { code: 'ELF_NOT_64_BIT', when: 'EI_CLASS is ELFCLASS32', bytes: (e) => e.ehdr('class', 1) },
  { code: 'ELF_NOT_LITTLE_ENDIAN', when: 'EI_DATA is ELFDATA2MSB', bytes: (e) => e.ehdr('data', 2) },
  { code: 'ELF_BAD_VERSION', when: 'EI_VERSION is 0', bytes: (e) => e.ehdr('identVersion', 0) },
  { code: 'ELF_BAD_VERSION', when: 'e_version is 2', bytes: (e) => e.ehdr('version', 2) },
  { code: 'ELF_BAD_OSABI', when: 'EI_OSABI is FreeBSD', bytes: (e) => e.ehdr('osabi', 9) },
  { code: 'ELF_BAD_OSABI', when: 'EI_ABIVERSION is 1', bytes: (e) => e.ehdr('abiVersion', 1) },
  { code: 'ELF_BAD_TYPE', when: 'it is a relocatable object', bytes: (e) => e.ehdr('type', 1) },
  { code: 'ELF_BAD_TYPE', when: 'it is a core file', bytes: (e) => e.ehdr('type', 4) },
  { code: 'ELF_BAD_MACHINE', when: 'it is for AArch64', bytes: (e) => e.ehdr('machine', 183) },
  { code: 'ELF_BAD_FLAGS', when: 'e_flags is 1', bytes: (e) => e.ehdr('flags', 1) },
  { code: 'ELF_BAD_HEADER_SIZE', when: 'e_ehsize is 52', bytes: (e) => e.ehdr('ehsize', 52) },
  { code: 'ELF_BAD_HEADER_SIZE', when: 'e_phentsize is 32', bytes: (e) => e.ehdr('phentsize', 32) },
  { code: 'ELF_BAD_HEADER_SIZE', when: 'e_shentsize is 40', bytes: (e) => e.ehdr('shentsize', 40) },
  { code: 'PROGRAM_HEADERS_MISSING', when: 'e_phnum is 0', bytes: (e) => e.ehdr('phnum', 0) },
  { code: 'PROGRAM_HEADERS_TOO_MANY', when: 'e_phnum is 65', bytes: (e) => e.ehdr('phnum', 65) },
  { code: 'PROGRAM_HEADERS_TOO_MANY', when: 'e_phnum is PN_XNUM', bytes: (e) => e.ehdr('phnum', 0xffff) },
  { code: 'PROGRAM_HEADERS_OUTSIDE_FILE', when: 'e_phoff is beyond the file', bytes: (e) => e.ehdr('phoff', 1 << 20) },
  { code: 'PROGRAM_HEADERS_OUTSIDE_FILE', when: 'e_phoff plus the table wraps', bytes: (e) => e.ehdr('phoff', U64_MAX) },
  { code: 'PROGRAM_HEADERS_OUTSIDE_FILE', when: 'e_phoff is inside the header', bytes: (e) => e.ehdr('phoff', 0) },
  { code: 'SECTION_HEADERS_MISSING', when: 'e_shnum is 0', bytes: (e) => e.ehdr('shnum', 0) },
  { code: 'SECTION_HEADERS_TOO_MANY', when: 'e_shnum is 257', bytes: (e) => e.ehdr('shnum', 257) },
  { code: 'SECTION_HEADERS_OUTSIDE_FILE', when: 'one more section than there is', bytes: (e) => e.ehdr('shnum', 17) },
  { code: 'SECTION_HEADERS_OUTSIDE_FILE', when: 'e_shoff plus the table wraps', bytes: (e) => e.ehdr('shoff', U64_MAX - 63n) },
  // Segments.
  { code: 'SEGMENT_INTERP', when: 'it names an interpreter', spec: describeSection(3, '.rodata') },
  { code: 'SEGMENT_TLS', when: 'it has thread-local storage', spec: describeSection(7, '.rodata') },
  { code: 'SEGMENT_TYPE_REFUSED', when: 'a program header is PT_SHLIB', spec: describeSection(5, '.rodata') },
  { code: 'STACK_EXECUTABLE', when: 'PT_GNU_STACK has PF_X', bytes: (e) => e.phdr(STACK, 'flags', 7) },
  { code: 'SEGMENT_BAD_FLAGS', when: 'a segment is not readable', bytes: (e) => e.phdr(TEXT, 'flags', 1) },
  { code: 'SEGMENT_BAD_FLAGS', when: 'a flag outside R, W and X is set', bytes: (e) => e.phdr(RO, 'flags', 0x104) },
  { code: 'SEGMENT_W_AND_X', when: 'a segment is R, W and X', bytes: (e) => e.phdr(DATA, 'flags', 7) },
  { code: 'SEGMENT_W_AND_X', when: 'a segment is W and X without R', bytes: (e) => e.phdr(TEXT, 'flags', 3) },
  { code: 'SEGMENT_OUTSIDE_FILE', when: 'p_offset is beyond the file', bytes: (e) => e.phdr(TEXT, 'offset', 0x100_0000) },
  { code: 'SEGMENT_OUTSIDE_FILE', when: 'p_offset plus p_filesz wraps', bytes: (e) => e.phdr(TEXT, 'offset', U64_MAX - 15n) },
  { code: 'SEGMENT_FILE_SIZE_ABOVE_MEMORY_SIZE', when: 'p_memsz is one less than p_filesz', bytes: (e) => e.phdr(TEXT, 'memsz', 63) },
  { code: 'SEGMENT_FILE_SIZE_ABOVE_MEMORY_SIZE', when: 'p_filesz is above 2^63', bytes: (e) => e.phdr(TEXT, 'filesz', U64_MAX) },
  { code: 'SEGMENT_ADDRESS_TOO_HIGH', when: 'a segment is in the upper half', bytes: (e) => e.phdr(DATA, 'vaddr', 0xffff_8000_0000_2000n) },
  { code: 'SEGMENT_ADDRESS_TOO_HIGH', when: 'p_vaddr plus p_memsz wraps', bytes: (e) => e.phdr(DATA, 'memsz', U64_MAX) },
  { code: 'SEGMENT_BAD_ALIGNMENT', when: 'p_align is no power of two', bytes: (e) => e.phdr(TEXT, 'align', 0x1800) },
  { code: 'SEGMENT_BAD_ALIGNMENT', when: 'p_align is 2 MiB', bytes: (e) => e.phdr(TEXT, 'align', 0x20_0000) },
  { code: 'SEGMENT_BAD_ALIGNMENT', when: 'p_align is 16, as ld -n links', bytes: (e) => e.phdr(TEXT, 'align', 16) },
  { code: 'SEGMENT_MISALIGNED', when: 'p_vaddr moves by 8 and p_offset does not', bytes: (e) => e.phdr(TEXT, 'vaddr', 0x1008) },
  { code: 'SEGMENTS_MISSING', when: 'every PT_LOAD is PT_NULL', bytes: (e) => { for (const i of [RO, TEXT, DATA]) e.phdr(i, 'type', 0); } },
  { code: 'SEGMENTS_UNORDERED', when: 'the last segment is below the first', from: () => minimalExec(), bytes: (e) => e.phdr(DATA, 'vaddr', 0x2000) },
  { code: 'SEGMENTS_OVERLAP', when: 'a segment begins inside the one before it', bytes: (e) => e.phdr(TEXT, 'memsz', 0x1001) },
  { code: 'SEGMENTS_SHARE_PAGE', when: 'a segment begins in the page where the one before it ends', bytes: both((e) => e.phdr(DATA, 'vaddr', 0x1800), (e) => e.phdr(DATA, 'offset', 0x1800)) },
  { code: 'IMAGE_TOO_LARGE', when: 'the last segment is 16 MiB up', bytes: (e) => e.phdr(DATA, 'vaddr', 0x100_2000) },
  { code: 'IMAGE_TOO_LARGE', when: 'p_memsz of .bss is 2^40', bytes: (e) => e.phdr(DATA, 'memsz', 1n << 40n) },
  { code: 'SEGMENT_DUPLICATE', when: 'PT_DYNAMIC occurs twice', spec: describeSection(2, '.dynamic') },
  { code: 'SEGMENT_DUPLICATE', when: 'PT_GNU_STACK occurs twice', bytes: (e) => e.phdr(NOTE, 'type', 0x6474e551) },
  { code: 'SEGMENT_NOT_LOADED', when: 'PT_DYNAMIC is beside every segment', bytes: (e) => e.phdr(DYNAMIC, 'vaddr', 0x1800) },
  { code: 'SEGMENT_NOT_LOADED', when: 'PT_DYNAMIC has another file offset than the bytes that are loaded', bytes: (e) => e.phdr(DYNAMIC, 'offset', 0x2010) },
  { code: 'SEGMENT_NOT_LOADED', when: 'PT_GNU_RELRO ends beyond its segment', spec: describeSection(0x6474e552, '.dynamic'), bytes: (e) => e.phdr(EXTRA, 'memsz', 0x10_0000) },
  // Sections.
  { code: 'SECTION_NAME_TABLE_BAD', when: 'e_shstrndx is 0', bytes: (e) => e.ehdr('shstrndx', 0) },
  { code: 'SECTION_NAME_TABLE_BAD', when: 'e_shstrndx is beyond the sections', bytes: (e) => e.ehdr('shstrndx', 16) },
  { code: 'SECTION_NAME_TABLE_BAD', when: 'e_shstrndx names .text', bytes: (e) => e.ehdr('shstrndx', 7) },
  { code: 'SECTION_NAME_TABLE_BAD', when: 'the last name does not end', bytes: (e) => e.contents('.shstrtab', e.getShdr('.shstrtab', 'size') - 1, 1, 0x41) },
  { code: 'SECTION_NAME_TABLE_BAD', when: 'the name table is beyond the file', bytes: (e) => e.shdr('.shstrtab', 'offset', U64_MAX) },
  { code: 'SECTION_NAME_BAD', when: 'a name begins beyond the name table', bytes: (e) => e.shdr('.comment', 'name', 0xffff_ffff) },
  { code: 'SECTION_NAME_BAD', when: 'a name has a line feed', bytes: (e) => e.contents('.shstrtab', 4, 1, 0x0a) },
  { code: 'SECTION_NAME_BAD', when: 'a section has no name', bytes: (e) => e.shdr('.comment', 'name', 0) },
  { code: 'SECTION_NAME_BAD', when: 'a name has 65 characters', spec: add(`.note.${'x'.repeat(59)}`, null, 0) },
  { code: 'SECTION_DUPLICATE', when: 'two sections are named .rodata', bytes: (e) => e.shdr('.comment', 'name', e.getShdr('.rodata', 'name')) },
  { code: 'SECTION_BAD_TYPE', when: '.text is SHT_NOBITS', bytes: (e) => e.shdr('.text', 'type', 8) },
  { code: 'SECTION_BAD_TYPE', when: '.ccb is SHT_NOBITS', bytes: (e) => e.shdr('.ccb', 'type', 8) },
  { code: 'SECTION_BAD_TYPE', when: 'a section but the first is SHT_NULL', bytes: (e) => e.shdr('.comment', 'type', 0) },
  { code: 'SECTION_BAD_TYPE', when: 'a SHT_NOBITS section is not allocated', bytes: (e) => e.shdr('.comment', 'type', 8) },
  { code: 'SECTION_BAD_FLAGS', when: '.text is writable', bytes: (e) => e.shdr('.text', 'flags', 7) },
  { code: 'SECTION_BAD_FLAGS', when: '.data is executable', bytes: (e) => e.shdr('.data', 'flags', 7) },
  { code: 'SECTION_BAD_FLAGS', when: '.data is thread-local', bytes: (e) => e.shdr('.data', 'flags', 0x403) },
  { code: 'SECTION_BAD_FLAGS', when: '.rodata is compressed', bytes: (e) => e.shdr('.rodata', 'flags', 0x802) },
  { code: 'SECTION_BAD_ALIGNMENT', when: 'sh_addralign is no power of two', bytes: (e) => e.shdr('.comment', 'addralign', 3) },
  { code: 'SECTION_BAD_ALIGNMENT', when: 'sh_addr is no multiple of sh_addralign', bytes: (e) => e.shdr('.text', 'addralign', 0x2000) },
  { code: 'SECTION_BAD_ENTRY_SIZE', when: '.symtab has entries of 16 bytes', bytes: (e) => e.shdr('.symtab', 'entsize', 16) },
  { code: 'SECTION_BAD_ENTRY_SIZE', when: '.symtab ends inside an entry', bytes: (e) => e.shdr('.symtab', 'size', 25) },
  { code: 'SECTION_BAD_ENTRY_SIZE', when: '.rela.dyn has entries of 0 bytes', bytes: (e) => e.shdr('.rela.dyn', 'entsize', 0) },
  { code: 'SECTION_OUTSIDE_FILE', when: 'sh_offset is beyond the file', bytes: (e) => e.shdr('.comment', 'offset', 1 << 20) },
  { code: 'SECTION_OUTSIDE_FILE', when: 'sh_offset plus sh_size wraps', bytes: (e) => e.shdr('.comment', 'offset', U64_MAX - 3n) },
  { code: 'SECTION_OUTSIDE_FILE', when: 'sh_size is 2^63', bytes: (e) => e.shdr('.comment', 'size', 1n << 63n) },
  { code: 'SECTION_OUTSIDE_FILE', when: '.bss has 2^50 bytes', bytes: (e) => e.shdr('.bss', 'size', 1n << 50n) },
  { code: 'SECTIONS_OVERLAP', when: 'two sections have the same bytes of the file', bytes: (e) => e.shdr('.comment', 'offset', e.getShdr('.text', 'offset')) },
  { code: 'SECTIONS_OVERLAP', when: '.bss begins inside .ccb', bytes: (e) => e.shdr('.bss', 'addr', e.getShdr('.ccb', 'addr') + 0x40) },
  { code: 'SECTION_REFUSED', when: 'it has .init_array', spec: add('.init_array', 'data', 8, { flags: 1 }) },
  { code: 'SECTION_REFUSED', when: 'it has .rela.plt', spec: add('.rela.plt', 'ro', 24, { type: 4, entrySize: 24 }) },
  { code: 'SECTION_REFUSED', when: 'it has a section named as a property of every object', spec: add('constructor', 'ro', 8) },
  { code: 'SECTION_REFUSED', when: 'it has .tdata', spec: add('.tdata', 'data', 8, { flags: 0x401 }) },
  { code: 'SECTION_NOT_EMPTY', when: '.got has an entry', spec: add('.got', 'data', 8, { flags: 1 }) },
  { code: 'SECTION_NOT_EMPTY', when: '.eh_frame has unwind tables', spec: add('.eh_frame', 'ro', 8) },
  { code: 'SECTION_OUTSIDE_SEGMENT', when: '.bss ends one byte beyond its segment', bytes: (e) => e.shdr('.bss', 'size', 0x2101) },
  { code: 'SECTION_OUTSIDE_SEGMENT', when: '.rodata is beside every segment', bytes: (e) => e.shdr('.rodata', 'addr', 0x1800) },
  { code: 'SECTION_OUTSIDE_SEGMENT', when: '.data is at 2^64 - 16', bytes: (e) => e.shdr('.data', 'addr', U64_MAX - 15n) },
  { code: 'SECTION_OFFSET_MISMATCH', when: 'the bytes of .rodata are not those that are loaded', bytes: (e) => e.shdr('.rodata', 'addr', e.getShdr('.rodata', 'addr') - 8) },
  { code: 'SECTION_OFFSET_MISMATCH', when: '.data lies where nothing is loaded from the file', bytes: (e) => e.phdr(DATA, 'filesz', 0xc8) },
  { code: 'SECTION_NOBITS_NOT_ZERO', when: 'the segment loads file bytes into .bss', bytes: (e) => e.phdr(DATA, 'filesz', e.getPhdr(DATA, 'filesz') + 0x40) },
  { code: 'SECTION_PERMISSIONS', when: '.data is in a read-only segment', bytes: (e) => e.phdr(DATA, 'flags', 4) },
  { code: 'SECTION_PERMISSIONS', when: '.rodata is in an executable segment', bytes: (e) => e.phdr(RO, 'flags', 5) },
  { code: 'SECTION_PERMISSIONS', when: '.rodata is in a writable segment', bytes: (e) => e.phdr(RO, 'flags', 6) },
  { code: 'SECTION_PERMISSIONS', when: '.text is not in an executable segment', bytes: (e) => e.phdr(TEXT, 'flags', 4) },
  { code: 'SECTION_PERMISSIONS', when: 'PT_GNU_RELRO makes the page of .ccb read-only', spec: describeSection(0x6474e552, '.dynamic'), bytes: (e) => e.phdr(EXTRA, 'memsz', 0x1000) },
  { code: 'EXECUTABLE_OUTSIDE_TEXT', when: '.text ends before its segment', bytes: (e) => e.shdr('.text', 'size', 63) },
  { code: 'EXECUTABLE_OUTSIDE_TEXT', when: 'the executable segment goes on after .text', bytes: (e) => e.phdr(TEXT, 'memsz', 0x41) },
  { code: 'TEXT_MISSING', when: '.text is not allocated', bytes: both((e) => e.shdr('.text', 'flags', 0), (e) => e.phdr(TEXT, 'type', 0)) },
  { code: 'ENTRY_OUTSIDE_TEXT', when: 'e_entry is the end of .text', bytes: (e) => e.ehdr('entry', 0x1040) },
  { code: 'ENTRY_OUTSIDE_TEXT', when: 'e_entry is in .data', bytes: (e) => e.ehdr('entry', e.getShdr('.data', 'addr')) },
  { code: 'ENTRY_OUTSIDE_TEXT', when: 'e_entry is 2^64 - 1', bytes: (e) => e.ehdr('entry', U64_MAX) },
  // Symbols and notes.
  { code: 'SYMBOL_TABLE_BAD', when: '.symtab is linked to .text', bytes: (e) => e.shdr('.symtab', 'link', 7) },
  { code: 'SYMBOL_TABLE_BAD', when: '.symtab is linked to no section', bytes: (e) => e.shdr('.symtab', 'link', 0xffff_ffff) },
  { code: 'SYMBOL_TABLE_BAD', when: 'the last symbol name does not end', bytes: (e) => e.contents('.strtab', e.getShdr('.strtab', 'size') - 1, 1, 0x41) },
  { code: 'SYMBOL_TABLE_BAD', when: 'there are two symbol tables', spec: add('.symtab2', null, 24, { type: 2, entrySize: 24, link: '.strtab' }) },
  { code: 'SYMBOLS_TOO_MANY', when: '.symtab has 65537 entries', spec: (s) => { s.symbols = []; while (s.symbols.length < 65536) s.symbols.push({ name: '', place: 'absolute', size: 0, info: 0 }); } },
  { code: 'SYMBOL_NAME_BAD', when: 'a name begins beyond the string table', bytes: (e) => e.sym(2, 'name', 0x7fff_ffff) },
  { code: 'SYMBOL_NAME_BAD', when: 'a name has 513 characters', spec: (s) => { s.symbols[1]!.name = 'x'.repeat(513); } },
  { code: 'SYMBOL_UNDEFINED', when: 'a function is undefined', spec: (s) => { s.symbols.push({ name: 'memcpy', place: 'undefined', size: 0, info: 0x12 }); } },
  { code: 'SYMBOL_UNDEFINED', when: 'a weak symbol is undefined', spec: (s) => { s.symbols.push({ name: 'hook', place: 'undefined', size: 0, info: 0x20 }); } },
  { code: 'SYMBOL_UNDEFINED', when: 'a dynamic symbol is undefined', spec: (s) => { section(s, '.dynsym').bytes = new Uint8Array(48); } },
  { code: 'SYMBOL_SECTION_BAD', when: 'a symbol is in a section beyond the last', bytes: (e) => e.sym(2, 'shndx', 200) },
  { code: 'SYMBOL_SECTION_BAD', when: 'a symbol is in a common block', bytes: (e) => e.sym(2, 'shndx', 0xfff2) },
  { code: 'SYMBOL_TYPE_REFUSED', when: 'a symbol is an indirect function', bytes: (e) => e.sym(2, 'info', 0x1a) },
  { code: 'SYMBOL_TYPE_REFUSED', when: 'a symbol is thread-local', bytes: (e) => e.sym(2, 'info', 0x16) },
  { code: 'SYMBOL_OUTSIDE_IMAGE', when: 'a function is beyond the image', bytes: (e) => e.sym(2, 'value', 0x100_0000) },
  { code: 'SYMBOL_OUTSIDE_IMAGE', when: 'st_value plus st_size wraps', bytes: (e) => e.sym(2, 'size', U64_MAX) },
  { code: 'NOTE_BAD', when: 'a note is longer than its section', bytes: (e) => e.contents('.note.gnu.build-id', 4, 4, 0xffff_ffff) },
  { code: 'NOTE_BAD', when: 'a section ends inside a note header', bytes: (e) => e.shdr('.note.gnu.build-id', 'size', 8) },
  // Dynamic array and relocations.
  { code: 'DYNAMIC_NOT_IN_FILE', when: 'PT_DYNAMIC has more bytes in memory than in the file', bytes: (e) => e.phdr(DYNAMIC, 'memsz', 0xd0) },
  { code: 'DYNAMIC_NOT_TERMINATED', when: 'the last entry is not DT_NULL', spec: (s) => { s.dynamic.pop(); } },
  { code: 'DYNAMIC_DUPLICATE', when: 'DT_HASH occurs twice', bytes: tag(DT.HASH) },
  { code: 'DYNAMIC_NEEDED', when: 'it needs a library', bytes: tag(1) },
  { code: 'DYNAMIC_TEXTREL', when: 'it has DT_TEXTREL', bytes: tag(22) },
  { code: 'DYNAMIC_TEXTREL', when: 'DT_FLAGS has DF_TEXTREL', bytes: both(tag(30), (e) => e.dyn(30, 'value', 4)) },
  { code: 'DYNAMIC_REL', when: 'it has DT_REL', bytes: tag(17) },
  { code: 'DYNAMIC_JMPREL', when: 'it has DT_JMPREL', bytes: tag(23) },
  { code: 'DYNAMIC_TAG_REFUSED', when: 'it has DT_INIT', bytes: tag(12) },
  { code: 'DYNAMIC_TAG_REFUSED', when: 'it has DT_RELR', bytes: tag(36) },
  { code: 'DYNAMIC_TAG_REFUSED', when: 'DT_FLAGS has DF_STATIC_TLS', bytes: both(tag(30), (e) => e.dyn(30, 'value', 16)) },
  { code: 'DYNAMIC_SECTION_MISMATCH', when: 'DT_HASH is not .hash', bytes: (e) => e.dyn(DT.HASH, 'value', 0) },
  { code: 'DYNAMIC_SECTION_MISMATCH', when: 'DT_STRSZ is not the size of .dynstr', bytes: (e) => e.dyn(DT.STRSZ, 'value', 2) },
  { code: 'DYNAMIC_SECTION_MISMATCH', when: 'DT_RELASZ is less than .rela.dyn', bytes: both((e) => e.dyn(DT.RELASZ, 'value', 72), (e) => e.dyn(DT.COUNT, 'value', 3)) },
  { code: 'DYNAMIC_SECTION_MISMATCH', when: 'PT_DYNAMIC is missing', bytes: (e) => e.phdr(DYNAMIC, 'type', 0) },
  { code: 'DYNAMIC_SECTION_MISMATCH', when: 'PT_DYNAMIC is a part of .dynamic', bytes: both((e) => e.phdr(DYNAMIC, 'filesz', 0xb0), (e) => e.phdr(DYNAMIC, 'memsz', 0xb0)) },
  { code: 'DYNAMIC_SECTION_MISMATCH', when: 'there are relocations and no dynamic array', spec: (s) => { drop('.dynamic')(s); s.dynamic = []; } },
  { code: 'RELOCATION_TABLE_INCONSISTENT', when: 'DT_RELAENT is 16', bytes: (e) => e.dyn(DT.RELAENT, 'value', 16) },
  { code: 'RELOCATION_TABLE_INCONSISTENT', when: 'DT_RELAENT is missing', bytes: both((e) => e.dyn(DT.DEBUG, 'tag', 16), (e) => e.dyn(DT.RELAENT, 'tag', DT.DEBUG)) },
  { code: 'RELOCATION_TABLE_INCONSISTENT', when: 'DT_RELACOUNT is one less', bytes: (e) => e.dyn(DT.COUNT, 'value', 3) },
  { code: 'RELOCATION_TABLE_INCONSISTENT', when: 'DT_RELASZ is missing', bytes: both((e) => e.dyn(DT.DEBUG, 'tag', 16), (e) => e.dyn(DT.RELASZ, 'tag', DT.DEBUG)) },
  { code: 'RELOCATIONS_TOO_MANY', when: 'there are 65537 relocations', spec: (s) => { const one = s.relocations[3]!; while (s.relocations.length <= 65536) s.relocations.push(one); s.dynamic = s.dynamic.map(([t, v]) => [t, t === DT.COUNT ? 65537 : v]); } },
  { code: 'RELOCATIONS_IN_ET_EXEC', when: 'a PIE calls itself ET_EXEC', bytes: (e) => e.ehdr('type', 2) },
  { code: 'RELOCATION_TYPE_REFUSED', when: 'the type is R_X86_64_64', bytes: (e) => e.rela(0, 'info', 1) },
  { code: 'RELOCATION_TYPE_REFUSED', when: 'the type is R_X86_64_IRELATIVE', bytes: (e) => e.rela(0, 'info', 37) },
  { code: 'RELOCATION_TYPE_REFUSED', when: 'a relative relocation names a symbol', bytes: (e) => e.rela(0, 'info', (1n << 32n) | 8n) },
  { code: 'RELOCATION_TARGET_OUTSIDE_SEGMENT', when: 'the target is beside every segment', bytes: (e) => e.rela(3, 'offset', 0x1800) },
  { code: 'RELOCATION_TARGET_OUTSIDE_SEGMENT', when: 'the target ends beyond its segment', bytes: (e) => e.rela(3, 'offset', e.getPhdr(DATA, 'vaddr') + e.getPhdr(DATA, 'memsz') - 7) },
  { code: 'RELOCATION_TARGET_OUTSIDE_SEGMENT', when: 'the target wraps', bytes: (e) => e.rela(3, 'offset', U64_MAX - 3n) },
  { code: 'RELOCATION_TARGET_READ_ONLY', when: 'the target is in .text', bytes: (e) => e.rela(3, 'offset', 0x1000) },
  { code: 'RELOCATION_TARGET_READ_ONLY', when: 'the target is in .rodata', bytes: (e) => e.rela(3, 'offset', e.getShdr('.rodata', 'addr')) },
  { code: 'RELOCATION_ADDEND_OUTSIDE_IMAGE', when: 'the addend is beyond the image', bytes: (e) => e.rela(3, 'addend', 0x10_0000) },
  { code: 'RELOCATION_ADDEND_OUTSIDE_IMAGE', when: 'the addend is negative', bytes: (e) => e.rela(3, 'addend', U64_MAX) },
  { code: 'RELOCATIONS_OVERLAP', when: 'two relocations have the same target', bytes: (e) => e.rela(3, 'offset', e.getShdr('.ccb', 'addr') + 16) },
  { code: 'RELOCATIONS_OVERLAP', when: 'two targets share 4 bytes', bytes: (e) => e.rela(3, 'offset', e.getShdr('.ccb', 'addr') + 36) },
  // The control block.
  { code: 'CCB_MISSING', when: 'there is no .ccb', spec: (s) => { drop('.ccb')(s); s.relocations = s.relocations.slice(3); s.symbols.pop(); s.dynamic = s.dynamic.map(([t, v]) => [t, t === DT.COUNT ? 1 : v]); } },
  { code: 'CCB_BAD_SIZE', when: '.ccb is 8 bytes larger', spec: (s) => { section(s, '.ccb').bytes = new Uint8Array(0x108); } },
  { code: 'CCB_BAD_SIZE', when: '.ccb is 8 bytes smaller', spec: (s) => { section(s, '.ccb').bytes = new Uint8Array(0xf8); } },
  { code: 'CCB_BAD_ALIGNMENT', when: '.ccb is aligned to 32', bytes: (e) => e.shdr('.ccb', 'addralign', 32) },
  { code: 'CCB_BAD_MAGIC', when: 'one bit of the magic differs', bytes: (e) => e.contents('.ccb', 7, 1, 0x80) },
  { code: 'CCB_BAD_VERSION', when: 'the version is the next', bytes: (e) => e.contents('.ccb', 8, 4, 4) },
  { code: 'CCB_BAD_SIZE_FIELD', when: 'the size field is another', bytes: (e) => e.contents('.ccb', 12, 4, 0xf8) },
  { code: 'CCB_FIELD_RELOCATED', when: 'a relocation changes the version', bytes: (e) => e.rela(3, 'offset', e.getShdr('.ccb', 'addr') + 8) },
  { code: 'CCB_FIELD_RELOCATED', when: 'a relocation that begins before .ccb changes the magic', bytes: (e) => e.rela(3, 'offset', e.getShdr('.ccb', 'addr') - 1) },
  { code: 'CCB_ENTRY_NOT_RELOCATED', when: 'an entry point of a PIE is a plain number', bytes: (e) => { e.rela(0, 'offset', e.getShdr('.data', 'addr') + 16); e.contents('.ccb', 16, 8, 0x1000); } },
  { code: 'CCB_ENTRY_OUTSIDE_TEXT', when: 'an entry point is in .rodata', bytes: (e) => e.rela(0, 'addend', e.getShdr('.rodata', 'addr')) },
  { code: 'CCB_ENTRY_OUTSIDE_TEXT', when: 'an entry point is the end of .text', bytes: (e) => e.rela(2, 'addend', 0x1040) },
  { code: 'CCB_ENTRY_OUTSIDE_TEXT', when: 'an entry point of an ET_EXEC is 0', from: () => minimalExec(), bytes: (e) => e.contents('.ccb', 16, 8, 0) },
  { code: 'CCB_ENTRY_NOT_E_ENTRY', when: 'the VM-exit entry point is not e_entry', bytes: (e) => e.rela(1, 'addend', 0x1020) },
];

/** The specification that a row starts from. */
export function specOf(row: RefusalRow): ElfSpec {
  const spec = (row.from ?? minimalPayload)();
  row.spec?.(spec);
  return spec;
}
