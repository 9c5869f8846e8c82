/**
 * The dynamic array: which tags a payload may have and where its relocation table is.
 *
 * Source: System V ABI, "Dynamic Section"; GNU extensions DT_GNU_HASH, DT_RELACOUNT, DT_FLAGS_1.
 * Invariant: the array and its tables are the sections of those names; a payload that passes asks for nothing that only a dynamic linker could give it.
 */
import { hex } from '../../abi/uint.js';
import { DF, DT, ELF } from '../elf-constants.js';
import { refuse } from '../errors.js';
import type { LoaderErrorCode } from '../errors.js';
import type { FileBytes } from '../file-bytes.js';
import type { ProgramHeader } from './program-headers.js';
import type { SectionHeader } from './section-headers.js';
import type { Segments } from './segments.js';

/** Tag to value, and to the file offset of the entry for messages. */
export type Dynamic = ReadonlyMap<bigint, { readonly value: bigint; readonly at: number }>;

const REFUSED: ReadonlyMap<bigint, LoaderErrorCode> = new Map([
  [DT.NEEDED, 'DYNAMIC_NEEDED'],
  [DT.TEXTREL, 'DYNAMIC_TEXTREL'],
  [DT.REL, 'DYNAMIC_REL'],
  [DT.RELSZ, 'DYNAMIC_REL'],
  [DT.RELENT, 'DYNAMIC_REL'],
  [DT.JMPREL, 'DYNAMIC_JMPREL'],
  [DT.PLTREL, 'DYNAMIC_JMPREL'],
  [DT.PLTRELSZ, 'DYNAMIC_JMPREL'],
]);

// prettier-ignore
const KNOWN: ReadonlySet<bigint> = new Set([
  DT.HASH, DT.STRTAB, DT.SYMTAB, DT.RELA, DT.RELASZ, DT.RELAENT, DT.STRSZ, DT.SYMENT, DT.SYMBOLIC, DT.DEBUG,
  DT.BIND_NOW, DT.FLAGS, DT.GNU_HASH, DT.RELACOUNT, DT.FLAGS_1,
]);

/** Tags that name a section by address, and the tag that repeats its size. */
const TABLES = [
  { section: '.dynsym', tag: DT.SYMTAB, sizeTag: null },
  { section: '.dynstr', tag: DT.STRTAB, sizeTag: DT.STRSZ },
  { section: '.hash', tag: DT.HASH, sizeTag: null },
  { section: '.gnu.hash', tag: DT.GNU_HASH, sizeTag: null },
  { section: '.rela.dyn', tag: DT.RELA, sizeTag: DT.RELASZ },
] as const;

/** Reads and checks the dynamic array; empty when the payload has none. @throws LoaderError */
export function readDynamic(
  file: FileBytes,
  segments: Segments,
  sections: readonly SectionHeader[],
): Dynamic {
  checkSection(segments.dynamic, sections);
  const dynamic = segments.dynamic === null ? new Map() : readEntries(file, segments.dynamic);
  checkTables(dynamic, sections);
  return dynamic;
}

function readEntries(file: FileBytes, header: ProgramHeader): Dynamic {
  const { fileSizeBytes, sizeBytes } = header;
  if (fileSizeBytes !== sizeBytes) {
    refuse('DYNAMIC_NOT_IN_FILE', `PT_DYNAMIC has ${hex(fileSizeBytes)} bytes in the file`, {
      offset: header.at + 32,
      expected: hex(sizeBytes),
      actual: hex(fileSizeBytes),
    });
  }
  const entries = new Map<bigint, { value: bigint; at: number }>();
  for (let at = header.offset; at < header.offset + fileSizeBytes; at += ELF.DYN_BYTES) {
    const tag = file.u64(at);
    if (tag === DT.NULL) return entries;
    const value = file.u64(at + 8);
    checkTag(tag, value, at);
    if (entries.has(tag)) {
      refuse('DYNAMIC_DUPLICATE', `tag ${hex(tag)} occurs twice`, { offset: at, actual: hex(tag) });
    }
    entries.set(tag, { value, at });
  }
  refuse('DYNAMIC_NOT_TERMINATED', 'the dynamic array has no DT_NULL', { offset: header.offset });
}

function checkTag(tag: bigint, value: bigint, at: number): void {
  const refused = REFUSED.get(tag);
  const evidence = { offset: at, actual: hex(tag) };
  if (refused !== undefined) refuse(refused, `the dynamic array has tag ${hex(tag)}`, evidence);
  if (!KNOWN.has(tag)) {
    refuse('DYNAMIC_TAG_REFUSED', `the dynamic array has tag ${hex(tag)}`, evidence);
  }
  if (tag !== DT.FLAGS) return;
  const flags = { offset: at + 8, actual: hex(value) };
  if ((value & DF.TEXTREL) !== 0n) {
    refuse('DYNAMIC_TEXTREL', `DT_FLAGS is ${hex(value)}: DF_TEXTREL`, flags);
  }
  if ((value & ~(DF.SYMBOLIC | DF.BIND_NOW)) !== 0n) {
    refuse('DYNAMIC_TAG_REFUSED', `DT_FLAGS is ${hex(value)}`, flags);
  }
}

/** PT_DYNAMIC and .dynamic are two names for the same bytes. */
function checkSection(header: ProgramHeader | null, sections: readonly SectionHeader[]): void {
  const section = sections.find((s) => s.name === '.dynamic' && s.isAllocated);
  const isSame =
    section === undefined || section.sizeBytes === 0
      ? header === null
      : section.offset === header?.offset && section.sizeBytes === header.fileSizeBytes;
  if (isSame) return;
  refuse('DYNAMIC_SECTION_MISMATCH', 'PT_DYNAMIC and .dynamic are not the same bytes', {
    offset: header?.at ?? section?.at ?? 0,
    expected: hex(header?.offset ?? 0),
    actual: hex(section?.offset ?? 0),
  });
}

function checkTables(dynamic: Dynamic, sections: readonly SectionHeader[]): void {
  for (const { section: name, tag, sizeTag } of TABLES) {
    const entry = dynamic.get(tag);
    const section = sections.find((s) => s.name === name && s.isAllocated && s.sizeBytes > 0);
    const size = sizeTag === null ? undefined : dynamic.get(sizeTag);
    const isSame =
      entry?.value === section?.address &&
      (size === undefined || size.value === BigInt(section?.sizeBytes ?? 0));
    // Without a dynamic array the tables are dead bytes, except relocations, which would never be applied.
    if (isSame || (dynamic.size === 0 && name !== '.rela.dyn')) continue;
    refuse('DYNAMIC_SECTION_MISMATCH', `the dynamic array and ${name} differ`, {
      offset: entry?.at ?? section?.at ?? 0,
      expected: section === undefined ? 'no such tag' : hex(section.address),
      actual: entry === undefined ? 'no such tag' : hex(entry.value),
    });
  }
}
