/**
 * Assembles payload files from specifications: lays sections out in segments and writes every table.
 *
 * Source: System V ABI, "Object Files". Written apart from loader/: nothing of the loader's reading is reused here.
 * Layout: headers and read-only tables in the first page, then .text, then .dynamic .data .ccb .bss, each on pages of
 * its own; symbols, names and the section headers at the end. File offset equals address minus `linkBase`.
 */
import { ElfFile } from './elf-file.js';
import { NOBITS, PAGE } from './elf-spec.js';
import type { ElfSpec, Place, SectionSpec, SegmentName } from './elf-spec.js';

export { ElfFile } from './elf-file.js';
export * from './elf-spec.js';

const SEGMENTS = { ro: 4, text: 5, data: 6 } as const satisfies Record<SegmentName, number>;

/** Lays the specification out and writes the file. */
export function assemble(spec: ElfSpec): ElfFile {
  const symbolNames = strings(spec.symbols.map((symbol) => symbol.name));
  const sectionNames = strings(spec.sections.map((section) => section.name));
  for (const section of spec.sections) {
    if (section.name === '.strtab') section.bytes = symbolNames.bytes;
    if (section.name === '.shstrtab') section.bytes = sectionNames.bytes;
    if (section.name === '.symtab') section.bytes = zeros(24 * (spec.symbols.length + 1));
    if (section.name === '.rela.dyn') section.bytes = zeros(24 * spec.relocations.length);
    if (section.name === '.dynamic') section.bytes = zeros(16 * spec.dynamic.length);
  }
  const { placed, segments, end } = layOut(spec);
  const find = (name: string): PlacedSection => placed.find((p) => p.section.name === name)!;
  const addressOf = (place: Place): number => find(place.section).address + place.offset;

  const elf = new ElfFile(zeros(end + 64 * (placed.length + 1)), [
    '',
    ...placed.map((p) => p.section.name),
  ]);
  writeHeader(elf, spec, end, addressOf(spec.entry));
  for (const { section, offset } of placed) {
    if (section.type !== NOBITS) elf.bytes.set(section.bytes, offset);
  }
  placed.forEach(({ section, address, offset }, index) => {
    const link =
      section.link === null ? 0 : placed.findIndex((p) => p.section.name === section.link) + 1;
    const alloc = section.segment === null ? 0 : 2;
    elf.shdr(section.name, 'name', sectionNames.offsets[index]!);
    elf.shdr(section.name, 'type', section.type);
    elf.shdr(section.name, 'flags', section.flags | alloc);
    elf.shdr(section.name, 'addr', address);
    elf.shdr(section.name, 'offset', offset);
    elf.shdr(section.name, 'size', section.bytes.length);
    elf.shdr(section.name, 'link', Math.max(link, 0));
    elf.shdr(section.name, 'addralign', section.alignment);
    elf.shdr(section.name, 'entsize', section.entrySize);
  });
  writeProgramHeaders(elf, spec, segments, find);
  if (spec.sections.some(({ name }) => name === '.symtab')) {
    spec.symbols.forEach((symbol, i) => {
      const { place } = symbol;
      elf.sym(i + 1, 'name', symbolNames.offsets[i]!);
      elf.sym(i + 1, 'info', symbol.info);
      elf.sym(i + 1, 'size', symbol.size);
      if (place === 'undefined') return;
      const section = place === 'absolute' ? 0xfff1 : placed.indexOf(find(place.section)) + 1;
      elf.sym(i + 1, 'shndx', section);
      if (place !== 'absolute') elf.sym(i + 1, 'value', addressOf(place));
    });
  }
  spec.relocations.forEach(({ at, to }, i) => {
    elf.rela(i, 'offset', addressOf(at));
    elf.rela(i, 'info', 8);
    elf.rela(i, 'addend', addressOf(to));
  });
  spec.dynamic.forEach(([tag, value], i) => {
    elf.contents('.dynamic', i * 16, 8, tag);
    elf.contents('.dynamic', i * 16 + 8, 8, dynamicValue(value, find));
  });
  return elf;
}

interface PlacedSection {
  readonly section: SectionSpec;
  readonly address: number;
  readonly offset: number;
}

interface PlacedSegment {
  readonly name: SegmentName;
  readonly offset: number;
  readonly fileSize: number;
  readonly size: number;
}

function layOut(spec: ElfSpec): {
  placed: PlacedSection[];
  segments: PlacedSegment[];
  end: number;
} {
  const placed = new Map<SectionSpec, PlacedSection>();
  const segments: PlacedSegment[] = [];
  let next = 0;
  for (const name of ['ro', 'text', 'data'] as const) {
    const sections = spec.sections.filter((section) => section.segment === name);
    // The read-only segment begins with the headers, as ld lays it out.
    const start = name === 'ro' ? 0 : Math.ceil(next / PAGE) * PAGE;
    next = name === 'ro' ? 64 + 56 * 16 : start;
    let fileEnd = next;
    for (const section of sections) {
      next = Math.ceil(next / section.alignment) * section.alignment;
      placed.set(section, { section, address: spec.linkBase + next, offset: next });
      next += section.bytes.length;
      if (section.type !== NOBITS) fileEnd = next;
    }
    segments.push({ name, offset: start, fileSize: fileEnd - start, size: next - start });
    if (name === 'data') next = fileEnd;
  }
  for (const section of spec.sections.filter((s) => s.segment === null)) {
    next = Math.ceil(next / section.alignment) * section.alignment;
    placed.set(section, { section, address: 0, offset: next });
    next += section.bytes.length;
  }
  const end = Math.ceil(next / 8) * 8;
  return { placed: spec.sections.map((section) => placed.get(section)!), segments, end };
}

function writeHeader(elf: ElfFile, spec: ElfSpec, sectionHeaders: number, entry: number): void {
  const [ET_EXEC, ET_DYN] = [2, 3];
  elf.bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0]);
  elf.ehdr('type', spec.type === 'ET_DYN' ? ET_DYN : ET_EXEC);
  elf.ehdr('machine', 62);
  elf.ehdr('version', 1);
  elf.ehdr('entry', entry);
  elf.ehdr('phoff', 64);
  elf.ehdr('shoff', sectionHeaders);
  elf.ehdr('ehsize', 64);
  elf.ehdr('phentsize', 56);
  elf.ehdr('shentsize', 64);
  elf.ehdr('shnum', spec.sections.length + 1);
  elf.ehdr('shstrndx', spec.sections.findIndex(({ name }) => name === '.shstrtab') + 1);
}

function writeProgramHeaders(
  elf: ElfFile,
  spec: ElfSpec,
  segments: readonly PlacedSegment[],
  find: (name: string) => PlacedSection,
): void {
  const rows: number[][] = segments.map((s) => [
    ...[1, SEGMENTS[s.name], s.offset, spec.linkBase + s.offset, s.fileSize, s.size, PAGE],
  ]);
  const describe = (type: number, flags: number, name: string): number[] => {
    const { section, address, offset } = find(name);
    const size = section.bytes.length;
    return [
      type,
      flags,
      offset,
      address,
      section.type === NOBITS ? 0 : size,
      size,
      section.alignment,
    ];
  };
  const has = (name: string): boolean => spec.sections.some((section) => section.name === name);
  if (has('.dynamic')) rows.push(describe(2, 6, '.dynamic'));
  if (has('.note.gnu.build-id')) rows.push(describe(4, 4, '.note.gnu.build-id'));
  rows.push([0x6474e551, 6, 0, 0, 0, 0, 16]);
  for (const { type, flags, section } of spec.programHeaders)
    rows.push(describe(type, flags, section));
  elf.ehdr('phnum', rows.length);
  rows.forEach(([type, flags, offset, address, fileSize, size, alignment], index) => {
    elf.phdr(index, 'type', type!);
    elf.phdr(index, 'flags', flags!);
    elf.phdr(index, 'offset', offset!);
    elf.phdr(index, 'vaddr', address!);
    elf.phdr(index, 'paddr', address!);
    elf.phdr(index, 'filesz', fileSize!);
    elf.phdr(index, 'memsz', size!);
    elf.phdr(index, 'align', alignment!);
  });
}

function dynamicValue(
  value: ElfSpec['dynamic'][number][1],
  find: (name: string) => PlacedSection,
): number {
  if (typeof value === 'number') return value;
  return 'address' in value ? find(value.address).address : find(value.sizeOf).section.bytes.length;
}

function zeros(length: number): Uint8Array {
  return new Uint8Array(length);
}

function strings(names: readonly string[]): { bytes: Uint8Array; offsets: number[] } {
  const offsets: number[] = [];
  let text = '\0';
  for (const name of names) {
    offsets.push(text.length);
    text += `${name}\0`;
  }
  return { bytes: new Uint8Array(Buffer.from(text, 'latin1')), offsets };
}
