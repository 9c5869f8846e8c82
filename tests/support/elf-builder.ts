/**
 * Makes payload ELF files: a minimal valid one as a specification to change, and the assembled bytes to corrupt.
 *
 * Source: System V ABI, "Object Files". Written apart from loader/: nothing of the loader's reading is reused here.
 * Layout: headers and read-only tables in the first page, then .text, then .dynamic .data .ccb .bss, each on pages of
 * its own; symbols, names and the section headers at the end. File offset equals address minus `linkBase`.
 */
import type { CcbRule } from '../../loader/ccb-rule.js';

/** A control block small enough to read in a hex dump. */
export const TEST_CCB_RULE: CcbRule = {
  sectionSize: 0x100,
  alignment: 64,
  magic: { offset: 0, sizeBytes: 8, value: 0x314b_5443n },
  version: { offset: 8, sizeBytes: 4, value: 3n },
  size: { offset: 12, sizeBytes: 4, value: 0x100n },
  entryPoints: [
    { name: 'init', offset: 16, isFileEntry: false },
    { name: 'vmexit', offset: 24, isFileEntry: true },
    { name: 'run', offset: 32, isFileEntry: false },
  ],
};

export type SegmentName = 'ro' | 'text' | 'data';

/** A place in the image: a section and a byte in it. */
export interface Place {
  readonly section: string;
  readonly offset: number;
}

export interface SectionSpec {
  name: string;
  type: number;
  /** SHF bits without ALLOC, which follows from `segment`. */
  flags: number;
  segment: SegmentName | null;
  alignment: number;
  entrySize: number;
  link: string | null;
  /** Contents, or for SHT_NOBITS the size; filled in by assemble() where it depends on addresses. */
  bytes: Uint8Array;
}

export interface SymbolSpec {
  name: string;
  place: Place | 'undefined' | 'absolute';
  size: number;
  info: number;
}

export interface ElfSpec {
  type: 'ET_DYN' | 'ET_EXEC';
  linkBase: number;
  entry: Place;
  sections: SectionSpec[];
  symbols: SymbolSpec[];
  relocations: { at: Place; to: Place }[];
  dynamic: [tag: number, value: number | { address: string } | { sizeOf: string }][];
  /** Beside PT_LOAD for each segment, PT_DYNAMIC, PT_NOTE and PT_GNU_STACK. */
  programHeaders: { type: number; flags: number; section: string }[];
}

// prettier-ignore
const FIELDS = {
  ehdr: {
    magic: [0, 4], class: [4, 1], data: [5, 1], identVersion: [6, 1], osabi: [7, 1], abiVersion: [8, 1], type: [16, 2], machine: [18, 2],
    version: [20, 4], entry: [24, 8], phoff: [32, 8], shoff: [40, 8], flags: [48, 4], ehsize: [52, 2], phentsize: [54, 2],
    phnum: [56, 2], shentsize: [58, 2], shnum: [60, 2], shstrndx: [62, 2],
  },
  phdr: { type: [0, 4], flags: [4, 4], offset: [8, 8], vaddr: [16, 8], paddr: [24, 8], filesz: [32, 8], memsz: [40, 8], align: [48, 8] },
  shdr: {
    name: [0, 4], type: [4, 4], flags: [8, 8], addr: [16, 8], offset: [24, 8], size: [32, 8], link: [40, 4], info: [44, 4],
    addralign: [48, 8], entsize: [56, 8],
  },
  sym: { name: [0, 4], info: [4, 1], other: [5, 1], shndx: [6, 2], value: [8, 8], size: [16, 8] },
  rela: { offset: [0, 8], info: [8, 8], addend: [16, 8] },
  dyn: { tag: [0, 8], value: [8, 8] },
} as const;

type Fields<K extends keyof typeof FIELDS> = keyof (typeof FIELDS)[K];

/** An assembled file whose fields are set by name. */
export class ElfFile {
  bytes: Uint8Array;
  readonly #sections: readonly string[];

  constructor(bytes: Uint8Array, sections: readonly string[]) {
    this.bytes = bytes;
    this.#sections = sections;
  }

  get(at: number, sizeBytes: number): number {
    let value = 0;
    for (let i = sizeBytes - 1; i >= 0; i--) value = value * 256 + this.bytes[at + i]!;
    return value;
  }

  set(at: number, sizeBytes: number, value: number | bigint): void {
    let rest = BigInt.asUintN(64, BigInt(value));
    for (let i = 0; i < sizeBytes; i++) {
      this.bytes[at + i] = Number(rest & 0xffn);
      rest >>= 8n;
    }
  }

  /** Sets a field of the ELF header. */
  ehdr(field: Fields<'ehdr'>, value: number | bigint): void {
    const [offset, size] = FIELDS.ehdr[field];
    this.set(offset, size, value);
  }

  /** Sets a field of program header `index`: 0 read-only, 1 text, 2 data, 3 PT_DYNAMIC, 4 PT_NOTE, 5 PT_GNU_STACK. */
  phdr(index: number, field: Fields<'phdr'>, value: number | bigint): void {
    const [offset, size] = FIELDS.phdr[field];
    this.set(64 + index * 56 + offset, size, value);
  }

  getPhdr(index: number, field: Fields<'phdr'>): number {
    const [offset, size] = FIELDS.phdr[field];
    return this.get(64 + index * 56 + offset, size);
  }

  /** Sets a field of the section header of `name`. */
  shdr(name: string, field: Fields<'shdr'>, value: number | bigint): void {
    const [offset, size] = FIELDS.shdr[field];
    this.set(this.#sectionHeader(name) + offset, size, value);
  }

  getShdr(name: string, field: Fields<'shdr'>): number {
    const [offset, size] = FIELDS.shdr[field];
    return this.get(this.#sectionHeader(name) + offset, size);
  }

  /** Sets a field of entry `index` of .symtab. */
  sym(index: number, field: Fields<'sym'>, value: number | bigint): void {
    const [offset, size] = FIELDS.sym[field];
    this.set(this.getShdr('.symtab', 'offset') + index * 24 + offset, size, value);
  }

  /** Sets a field of relocation `index`. */
  rela(index: number, field: Fields<'rela'>, value: number | bigint): void {
    const [offset, size] = FIELDS.rela[field];
    this.set(this.getShdr('.rela.dyn', 'offset') + index * 24 + offset, size, value);
  }

  /** Sets a field of the dynamic entry with this tag. */
  dyn(tag: number, field: Fields<'dyn'>, value: number | bigint): void {
    const start = this.getShdr('.dynamic', 'offset');
    for (let at = start; at < start + this.getShdr('.dynamic', 'size'); at += 16) {
      if (this.get(at, 8) !== tag) continue;
      const [offset, size] = FIELDS.dyn[field];
      this.set(at + offset, size, value);
      return;
    }
    throw new Error(`no dynamic entry ${String(tag)}`);
  }

  /** Sets bytes of a section's contents. */
  contents(name: string, offset: number, sizeBytes: number, value: number | bigint): void {
    this.set(this.getShdr(name, 'offset') + offset, sizeBytes, value);
  }

  #sectionHeader(name: string): number {
    const index = this.#sections.indexOf(name);
    if (index < 0) throw new Error(`no section ${name}`);
    return this.get(40, 8) + index * 64;
  }
}

const PROGBITS = 1;
const NOBITS = 8;
const WRITE = 1;
const EXECINSTR = 4;
const PAGE = 0x1000;
const SEGMENTS = { ro: 4, text: 5, data: 6 } as const satisfies Record<SegmentName, number>;

/** The specification of a minimal payload for a control block's rule; a test changes it before assemble(). */
export function minimalPayload(rule: CcbRule = TEST_CCB_RULE): ElfSpec {
  const section = (
    name: string,
    type: number,
    segment: SegmentName | null,
    more: Partial<SectionSpec> = {},
  ): SectionSpec => ({
    ...{ name, type, segment, flags: 0, alignment: 8, entrySize: 0, link: null, bytes: zeros(0) },
    ...more,
  });
  const label = (name: string, offset: number): SymbolSpec => {
    return { name, place: { section: '.text', offset }, size: 16, info: 0x12 };
  };
  const pointer = (offset: number, to: number): ElfSpec['relocations'][number] => {
    return { at: { section: '.ccb', offset }, to: { section: '.text', offset: to } };
  };
  // prettier-ignore
  return {
    type: 'ET_DYN',
    linkBase: 0,
    entry: { section: '.text', offset: 16 },
    sections: [
      section('.note.gnu.build-id', 7, 'ro', { alignment: 4, bytes: buildIdNote() }),
      section('.hash', 5, 'ro', { entrySize: 4, link: '.dynsym', bytes: words(1, 1, 0, 0) }),
      section('.dynsym', 11, 'ro', { entrySize: 24, link: '.dynstr', bytes: zeros(24) }),
      section('.dynstr', 3, 'ro', { alignment: 1, bytes: zeros(1) }),
      section('.rela.dyn', 4, 'ro', { entrySize: 24, link: '.dynsym' }),
      section('.rodata', PROGBITS, 'ro', { bytes: words(0xfeed, 0xbeef) }),
      section('.text', PROGBITS, 'text', { flags: EXECINSTR, alignment: 16, bytes: new Uint8Array(64).fill(0x90) }),
      section('.dynamic', 6, 'data', { flags: WRITE, entrySize: 16, link: '.dynstr' }),
      section('.data', PROGBITS, 'data', { flags: WRITE, bytes: words(1, 2, 3, 4) }),
      section('.ccb', PROGBITS, 'data', { flags: WRITE, alignment: rule.alignment, bytes: controlBlock(rule) }),
      section('.bss', NOBITS, 'data', { flags: WRITE, alignment: 16, bytes: zeros(0x2100) }),
      section('.comment', PROGBITS, null, { alignment: 1, bytes: words(0x41414141) }),
      section('.symtab', 2, null, { entrySize: 24, link: '.strtab' }),
      section('.strtab', 3, null, { alignment: 1 }),
      section('.shstrtab', 3, null, { alignment: 1 }),
    ],
    symbols: [
      { name: 'payload.c', place: 'absolute', size: 0, info: 0x04 },
      label('caretaker_init', 0), label('caretaker_vmexit', 16), label('caretaker_run', 32),
      { name: 'ccb', place: { section: '.ccb', offset: 0 }, size: rule.sectionSize, info: 0x11 },
    ],
    relocations: [
      ...rule.entryPoints.map(({ offset }, index) => pointer(offset, index * 16)),
      { at: { section: '.data', offset: 8 }, to: { section: '.rodata', offset: 4 } },
    ],
    dynamic: [
      [4, { address: '.hash' }], [5, { address: '.dynstr' }], [6, { address: '.dynsym' }], [10, { sizeOf: '.dynstr' }],
      [11, 24], [21, 0], [7, { address: '.rela.dyn' }], [8, { sizeOf: '.rela.dyn' }], [9, 24], [0x6ffffff9, 4],
      [0x6ffffffb, 0x0800_0000], [0, 0],
    ],
    programHeaders: [],
  };
}

/** The same payload linked at `linkBase` as ET_EXEC, without relocations or a dynamic array. */
export function minimalExec(linkBase = 0x40_0000): ElfSpec {
  const spec = minimalPayload();
  const dynamic = ['.hash', '.dynsym', '.dynstr', '.rela.dyn', '.dynamic'];
  spec.type = 'ET_EXEC';
  spec.linkBase = linkBase;
  spec.sections = spec.sections.filter(({ name }) => !dynamic.includes(name));
  spec.relocations = [];
  spec.dynamic = [];
  const ccb = spec.sections.find(({ name }) => name === '.ccb')!;
  const view = new DataView(ccb.bytes.buffer);
  for (const [at, offset] of [
    [16, 0],
    [24, 16],
    [32, 32],
  ] as const) {
    view.setBigUint64(at, BigInt(linkBase + PAGE + offset), true);
  }
  return spec;
}

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

function controlBlock(rule: CcbRule): Uint8Array {
  const bytes = zeros(rule.sectionSize);
  const view = new DataView(bytes.buffer);
  for (const { offset, sizeBytes, value } of [rule.magic, rule.version, rule.size]) {
    if (sizeBytes === 8) view.setBigUint64(offset, value, true);
    else view.setUint32(offset, Number(value), true);
  }
  return bytes;
}

function buildIdNote(): Uint8Array {
  const GNU = 0x0055_4e47;
  return words(4, 8, 3, GNU, 0x0403_0201, 0x0807_0605);
}

/** Little-endian 32-bit words. */
export function words(...values: readonly number[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(values.length * 4));
  values.forEach((value, index) => view.setUint32(index * 4, value, true));
  return new Uint8Array(view.buffer);
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
