/**
 * Specifications of payload files: a minimal valid one, as data that a test changes before it is assembled.
 *
 * Source: DESIGN ("The payload"). A place in the image is a section and an offset; addresses come with assembly.
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

/** Pages on which segments begin. */
export const PAGE = 0x1000;
/** SHT_NOBITS. */
export const NOBITS = 8;
const PROGBITS = 1;
const WRITE = 1;
const EXECINSTR = 4;

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
function words(...values: readonly number[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(values.length * 4));
  values.forEach((value, index) => view.setUint32(index * 4, value, true));
  return new Uint8Array(view.buffer);
}

function zeros(length: number): Uint8Array {
  return new Uint8Array(length);
}
