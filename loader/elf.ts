/**
 * Bytes to a validated image: the strict checker first, then elfy, whose view of the same file must agree.
 *
 * 1. checks/ look at the size, header, segments, sections, symbols, dynamic array, relocations and control block, and
 *    take every 64-bit number themselves.
 * 2. elfy parses what is left to parse; it rounds large numbers and trusts its input, so it never sees an unchecked file.
 * 3. Contents are copied out of elfy's slices. Nothing of the image aliases the file.
 *
 * Source: DESIGN ("The payload"). Invariant: parseElf() throws LoaderError or gives back an image; nothing else.
 */
import elfy from 'elfy';
import type { ElfyFile } from 'elfy';
import { toIndex } from '../abi/uint.js';
import type { CcbRule } from './ccb-rule.js';
import { checkCcb, checkEntry } from './checks/ccb.js';
import { readDynamic } from './checks/dynamic.js';
import { checkHeader } from './checks/header.js';
import type { Header } from './checks/header.js';
import type { LoadHeader } from './checks/program-headers.js';
import { readRelocations } from './checks/relocations.js';
import { readSectionHeaders } from './checks/section-headers.js';
import type { SectionHeader } from './checks/section-headers.js';
import { checkSections } from './checks/sections.js';
import { checkSegments } from './checks/segments.js';
import type { Segments } from './checks/segments.js';
import { SHT } from './elf-constants.js';
import { refuse } from './errors.js';
import { FileBytes } from './file-bytes.js';
import type { CaretakerImage, Section, Segment } from './image.js';
import { readNotes } from './notes.js';
import { readSymbols } from './symbols.js';

/** A second parser for the same file; elfy unless a test brings a broken one. */
export type SecondParser = (file: Buffer) => ElfyFile;

/** Parses and validates a payload file. @throws LoaderError with the first rule that the file breaks. */
export function parseElf(
  bytes: Uint8Array,
  rule: CcbRule,
  secondParser: SecondParser = (file) => elfy.parse(file),
): CaretakerImage {
  const file = new FileBytes(bytes);
  const header = checkHeader(file);
  const segments = checkSegments(file, header);
  const sections = readSectionHeaders(file, header);
  const text = checkSections(file, sections, segments);
  checkEntry(header, text);
  const symbols = readSymbols(file, sections, segments.pages);
  const notes = readNotes(file, sections);
  const dynamic = readDynamic(file, segments, sections);
  const relocations = readRelocations(file, header, dynamic, sections, segments);
  const ccb = checkCcb(file, { header, sections, text, relocations }, rule);
  const second = readAgain(file, header, segments, sections, secondParser);
  return {
    type: header.type,
    entry: header.entry,
    pages: segments.pages,
    segments: segments.loads.map((load) => toSegment(load, sections, second)),
    sections: sections.map((section, index) =>
      toSection(section, second.body.sections[index]!.data),
    ),
    symbols,
    relocations,
    relro: segments.relro,
    notes,
    ccb,
  };
}

function readAgain(
  file: FileBytes,
  header: Header,
  segments: Segments,
  sections: readonly SectionHeader[],
  parse: SecondParser,
): ElfyFile {
  const { buffer, byteOffset, byteLength } = file.bytes;
  let second: ElfyFile;
  try {
    second = parse(Buffer.from(buffer, byteOffset, byteLength));
  } catch (cause) {
    refuse('PARSERS_DISAGREE', 'the second parser refuses the file', {}, cause);
  }
  const differences = [
    header.type === (second.type === 'dyn' ? 'ET_DYN' : 'ET_EXEC') || 'e_type',
    toIndex(header.entry) === second.entry || 'e_entry',
    sections.length === second.body.sections.length || 'e_shnum',
    ...segments.loads.map((load) => isSameSegment(load, second) || load.label),
    ...sections.map((section, index) => isSameSection(section, second, index) || section.name),
  ].filter((result) => result !== true);
  if (differences.length > 0) {
    const actual = differences.join(', ');
    refuse('PARSERS_DISAGREE', `the second parser differs in ${actual}`, { actual });
  }
  return second;
}

function isSameSegment(load: LoadHeader, second: ElfyFile): boolean {
  const other = programOf(load, second);
  return (
    other !== undefined &&
    other.offset === load.offset &&
    other.memsz === load.sizeBytes &&
    other.data.length === load.fileSizeBytes
  );
}

function programOf(load: LoadHeader, second: ElfyFile) {
  const address = toIndex(load.address);
  return second.body.programs.find((p) => p.type === 'load' && p.vaddr === address && p.memsz > 0);
}

function isSameSection(section: SectionHeader, second: ElfyFile, index: number): boolean {
  const other = second.body.sections[index];
  const hasBytes = section.type !== SHT.NOBITS && section.type !== SHT.NULL;
  return (
    other !== undefined &&
    other.name === section.name &&
    other.size === section.sizeBytes &&
    (!hasBytes || (other.off === section.offset && other.data.length === section.sizeBytes))
  );
}

function toSegment(
  load: LoadHeader,
  sections: readonly SectionHeader[],
  second: ElfyFile,
): Segment {
  const held = sections.filter(
    (s) => s.isAllocated && s.sizeBytes > 0 && s.address >= load.address && s.address < load.end,
  );
  return {
    name: held.map((section) => section.name).join(' '),
    address: load.address,
    sizeBytes: load.sizeBytes,
    offset: load.offset,
    permissions: load.permissions,
    bytes: new Uint8Array(programOf(load, second)!.data),
  };
}

function toSection(section: SectionHeader, data: Uint8Array): Section {
  const { name, type, flags, address, offset, sizeBytes, alignment, link, isAllocated } = section;
  const { entrySizeBytes } = section;
  const bytes = type === SHT.NOBITS ? new Uint8Array(sizeBytes) : new Uint8Array(data);
  // prettier-ignore
  return { name, type, flags, address, offset, sizeBytes, alignment, entrySizeBytes, link, isAllocated, bytes };
}
