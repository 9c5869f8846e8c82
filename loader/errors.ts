/**
 * Why a payload file is refused: one code a rule, and the rule's sentence beside it.
 *
 * Source: DESIGN ("The payload"); the ELF-64 and x86-64 psABI documents for what a field may hold.
 * Invariant: the codes are a closed set; every code has a row in tests/loader that provokes it.
 */
import { HarnessError } from '../abi/errors.js';

// prettier-ignore
export const LOADER_RULES = {
  // The file and its header.
  FILE_TOO_LARGE: 'a payload file has at most 4 MiB',
  FILE_TOO_SHORT: 'a payload file begins with a whole ELF64 header',
  ELF_BAD_MAGIC: 'an ELF file begins with 7f 45 4c 46',
  ELF_NOT_64_BIT: 'EI_CLASS is ELFCLASS64',
  ELF_NOT_LITTLE_ENDIAN: 'EI_DATA is ELFDATA2LSB',
  ELF_BAD_VERSION: 'EI_VERSION and e_version are EV_CURRENT',
  ELF_BAD_OSABI: 'EI_OSABI is SYSV or GNU and EI_ABIVERSION is 0',
  ELF_BAD_TYPE: 'e_type is ET_DYN (a PIE) or ET_EXEC',
  ELF_BAD_MACHINE: 'e_machine is EM_X86_64',
  ELF_BAD_FLAGS: 'e_flags is 0: x86-64 defines no flags',
  ELF_BAD_HEADER_SIZE: 'e_ehsize, e_phentsize and e_shentsize are the sizes of the ELF64 structures',
  PROGRAM_HEADERS_MISSING: 'a payload has program headers',
  PROGRAM_HEADERS_TOO_MANY: 'a payload has at most 64 program headers',
  PROGRAM_HEADERS_OUTSIDE_FILE: 'the program header table lies inside the file',
  SECTION_HEADERS_MISSING: 'a payload has section headers: .text and .ccb are found by name',
  SECTION_HEADERS_TOO_MANY: 'a payload has at most 256 sections',
  SECTION_HEADERS_OUTSIDE_FILE: 'the section header table lies inside the file',
  // Segments.
  SEGMENT_INTERP: 'a payload names no interpreter',
  SEGMENT_TLS: 'a payload has no thread-local storage',
  SEGMENT_TYPE_REFUSED: 'a program header has a type that the loader knows',
  STACK_EXECUTABLE: 'PT_GNU_STACK is not executable',
  SEGMENT_BAD_FLAGS: 'a loaded segment is readable and has no flags but R, W and X',
  SEGMENT_W_AND_X: 'no segment is writable and executable',
  SEGMENT_OUTSIDE_FILE: 'the file part of a segment lies inside the file',
  SEGMENT_FILE_SIZE_ABOVE_MEMORY_SIZE: 'p_filesz is at most p_memsz',
  SEGMENT_ADDRESS_TOO_HIGH: 'a segment ends at or below 2^47: the payload is identity-mapped',
  SEGMENT_BAD_ALIGNMENT: 'p_align of a loaded segment is 4096',
  SEGMENT_MISALIGNED: 'p_offset and p_vaddr of a loaded segment are congruent modulo the page size',
  SEGMENTS_MISSING: 'a payload has a loaded segment',
  SEGMENTS_UNORDERED: 'loaded segments ascend by address',
  SEGMENTS_OVERLAP: 'loaded segments do not overlap',
  SEGMENTS_SHARE_PAGE: 'no page belongs to two segments',
  IMAGE_TOO_LARGE: 'the image spans at most 16 MiB',
  SEGMENT_DUPLICATE: 'PT_DYNAMIC, PT_GNU_RELRO, PT_GNU_STACK and PT_PHDR occur at most once',
  SEGMENT_NOT_LOADED: 'PT_DYNAMIC, PT_GNU_RELRO and PT_PHDR describe bytes of a loaded segment',
  // Sections.
  SECTION_NAME_TABLE_BAD: 'e_shstrndx names a string table that ends in NUL',
  SECTION_NAME_BAD: 'a section name is printable ASCII of at most 64 characters inside the name table',
  SECTION_DUPLICATE: 'section names are unique',
  SECTION_BAD_TYPE: 'a section has the type that its name or place calls for',
  SECTION_BAD_FLAGS: 'an allocated section has the flags that its name calls for',
  SECTION_BAD_ALIGNMENT: 'sh_addralign is 0 or a power of two that divides sh_addr',
  SECTION_BAD_ENTRY_SIZE: 'sh_entsize of a table is the size of its entries and divides sh_size',
  SECTION_OUTSIDE_FILE: 'the bytes of a section lie inside the file',
  SECTIONS_OVERLAP: 'sections do not overlap in the file or in memory',
  SECTION_REFUSED: 'an allocated section has a name on the list of those a payload may have',
  SECTION_NOT_EMPTY: '.got, .got.plt, .plt and .eh_frame are empty when they exist',
  SECTION_OUTSIDE_SEGMENT: 'an allocated section lies inside a loaded segment',
  SECTION_OFFSET_MISMATCH: 'an allocated section is at the file offset that its segment loads there',
  SECTION_NOBITS_NOT_ZERO: 'file bytes that a segment loads under a SHT_NOBITS section are 0',
  SECTION_PERMISSIONS: 'the segment of an allocated section has the permissions that the name calls for',
  EXECUTABLE_OUTSIDE_TEXT: 'every byte of an executable segment belongs to .text: the sweep for trap sites sees it',
  TEXT_MISSING: 'a payload has a .text section',
  ENTRY_OUTSIDE_TEXT: 'e_entry lies in .text',
  // Symbols and notes.
  SYMBOL_TABLE_BAD: 'a symbol table is whole, single and linked to a string table that ends in NUL',
  SYMBOLS_TOO_MANY: 'a symbol table has at most 65536 entries',
  SYMBOL_NAME_BAD: 'a symbol name lies inside its string table and has at most 512 bytes',
  SYMBOL_UNDEFINED: 'every symbol is defined: there is nothing to link a payload with',
  SYMBOL_SECTION_BAD: 'a symbol belongs to a section of the file or is absolute',
  SYMBOL_TYPE_REFUSED: 'a symbol is no indirect function, common block or thread-local variable',
  SYMBOL_OUTSIDE_IMAGE: 'a symbol with a size describes bytes of the image',
  NOTE_BAD: 'a note section is a whole sequence of notes',
  // Dynamic section and relocations.
  DYNAMIC_NOT_IN_FILE: 'all of PT_DYNAMIC is in the file',
  DYNAMIC_NOT_TERMINATED: 'the dynamic array ends with DT_NULL',
  DYNAMIC_DUPLICATE: 'a dynamic tag occurs at most once',
  DYNAMIC_NEEDED: 'a payload needs no shared library',
  DYNAMIC_TEXTREL: 'a payload has no relocations in read-only segments (DT_TEXTREL)',
  DYNAMIC_REL: 'a payload has no relocations without addends (DT_REL)',
  DYNAMIC_JMPREL: 'a payload has no procedure linkage table (DT_JMPREL)',
  DYNAMIC_TAG_REFUSED: 'a dynamic tag is one that the loader knows',
  DYNAMIC_SECTION_MISMATCH: 'the tables that the dynamic array names are the sections of those names',
  RELOCATION_TABLE_INCONSISTENT: 'DT_RELA, DT_RELASZ, DT_RELAENT and DT_RELACOUNT agree with each other',
  RELOCATIONS_TOO_MANY: 'a payload has at most 65536 relocations',
  RELOCATIONS_IN_ET_EXEC: 'an ET_EXEC payload has no relocations: it runs at its link address',
  RELOCATION_TYPE_REFUSED: 'every relocation is R_X86_64_RELATIVE without a symbol',
  RELOCATION_TARGET_OUTSIDE_SEGMENT: 'a relocation changes 8 bytes of one loaded segment',
  RELOCATION_TARGET_READ_ONLY: 'a relocation changes a writable segment',
  RELOCATION_ADDEND_OUTSIDE_IMAGE: 'the addend of a relocation is an address of the image or its end',
  RELOCATIONS_OVERLAP: 'no two relocations change the same byte',
  // The control block.
  CCB_MISSING: 'a payload has a .ccb section',
  CCB_BAD_SIZE: 'the .ccb section has the size of the control block',
  CCB_BAD_ALIGNMENT: 'the .ccb section is aligned as the control block is',
  CCB_BAD_MAGIC: 'the control block begins with its magic',
  CCB_BAD_VERSION: 'the control block has the version that this host knows',
  CCB_BAD_SIZE_FIELD: 'the size field of the control block is its size',
  CCB_FIELD_RELOCATED: 'magic, version and size of the control block are constants, not relocated',
  CCB_ENTRY_NOT_RELOCATED: 'each entry point in the control block of a PIE is the target of a relocation',
  CCB_ENTRY_OUTSIDE_TEXT: 'each entry point in the control block lies in .text',
  CCB_ENTRY_NOT_E_ENTRY: 'the VM-exit entry point in the control block equals e_entry',
  // Behind the checks, and when the image meets a machine.
  PARSERS_DISAGREE: 'the second parser reads the same segments and sections as the checker',
  PLACE_UNALIGNED: 'an image is placed at a page boundary',
  PLACE_NOT_RELOCATABLE: 'an ET_EXEC image is placed at its link address',
  PLACE_OUTSIDE_MEMORY: 'an image and its guard pages fit into physical memory',
} as const;

/** Every reason for which the loader refuses a file or a place for it. */
export type LoaderErrorCode = keyof typeof LOADER_RULES;

/** All codes, for the test that each has a row. */
export const LOADER_ERROR_CODES = Object.keys(LOADER_RULES) as readonly LoaderErrorCode[];

/** What was found where: `offset` is the file offset of the field at fault; addresses are hex text. */
export interface LoaderEvidence {
  readonly offset?: number;
  readonly expected?: string | number;
  readonly actual?: string | number;
}

/** A payload file, or a place for its image, that breaks a rule. */
export class LoaderError extends HarnessError<LoaderErrorCode> {
  declare readonly details: LoaderEvidence & { readonly rule: string } & Readonly<
      Record<string, unknown>
    >;
}

/** @throws LoaderError always, with the rule that `code` stands for. */
export function refuse(
  code: LoaderErrorCode,
  message: string,
  evidence: LoaderEvidence = {},
  cause?: unknown,
): never {
  const rule = LOADER_RULES[code];
  throw new LoaderError(code, `${message} (rule: ${rule})`, { rule, ...evidence }, { cause });
}
