import { describe, expect, it } from 'vitest';
import { parseElf } from '../../loader/elf.js';
import { sectionNamed } from '../../loader/image.js';
import { buildId } from '../../loader/notes.js';
import { symbolNamed, symbolise } from '../../loader/symbols.js';
import { TEST_CCB_RULE, assemble, minimalExec, minimalPayload } from '../support/elf-builder.js';
import type { ElfSpec } from '../support/elf-builder.js';

const load = (spec: ElfSpec) => parseElf(assemble(spec).bytes, TEST_CCB_RULE);

describe('a valid payload', () => {
  it('is an image of segments that ascend, with the rights of its program headers', () => {
    const image = load(minimalPayload());
    expect(image).toMatchObject({ type: 'ET_DYN', entry: 0x1010n, relro: null });
    expect(
      image.segments.map(({ name, address, permissions }) => [name, address, permissions]),
    ).toEqual([
      ['.note.gnu.build-id .hash .dynsym .dynstr .rela.dyn .rodata', 0x0n, 'R'],
      ['.text', 0x1000n, 'RX'],
      ['.dynamic .data .ccb .bss', 0x2000n, 'RW'],
    ]);
  });

  it('has its relocations with addresses and addends at link time', () => {
    const { relocations, ccb } = load(minimalPayload());
    expect(relocations.slice(0, 3).map((r) => [r.address - ccb.address, r.addend])).toEqual([
      [16n, 0x1000n],
      [24n, 0x1010n],
      [32n, 0x1020n],
    ]);
    expect(relocations).toHaveLength(4);
  });

  it('has the entry points that its control block names', () => {
    expect(load(minimalPayload()).ccb).toMatchObject({
      sizeBytes: 0x100,
      entryPoints: { init: 0x1000n, vmexit: 0x1010n, run: 0x1020n },
    });
  });

  it('has sections with their own bytes, SHT_NOBITS with zeros', () => {
    const image = load(minimalPayload());
    expect([...sectionNamed(image, '.rodata')!.bytes]).toEqual([
      0xed, 0xfe, 0, 0, 0xef, 0xbe, 0, 0,
    ]);
    expect(sectionNamed(image, '.bss')!.bytes).toEqual(new Uint8Array(0x2100));
    expect(sectionNamed(image, '.comment')).toMatchObject({ isAllocated: false, sizeBytes: 4 });
  });

  it('keeps nothing of the file: a later change of the file changes no image', () => {
    const { bytes } = assemble(minimalPayload());
    const image = parseElf(bytes, TEST_CCB_RULE);
    const copy = structuredClone(image);
    bytes.fill(0xff);
    expect(image).toEqual(copy);
  });

  it('may be a view into a larger buffer, as Node reads small files', () => {
    const { bytes } = assemble(minimalPayload());
    const pool = new Uint8Array(bytes.length + 100).fill(0xcc);
    pool.set(bytes, 33);
    const view = Buffer.from(pool.buffer, 33, bytes.length);
    expect(parseElf(view, TEST_CCB_RULE)).toEqual(parseElf(bytes, TEST_CCB_RULE));
  });

  it('has a build ID from its note', () => {
    const image = load(minimalPayload());
    expect(buildId(image)).toBe('0102030405060708');
    expect(image.notes).toMatchObject([{ section: '.note.gnu.build-id', owner: 'GNU', type: 3 }]);
  });

  it('may be ET_EXEC without relocations, with pointers as the file has them', () => {
    const image = load(minimalExec());
    expect(image).toMatchObject({ type: 'ET_EXEC', entry: 0x401010n, relocations: [] });
    expect(image.pages.start).toBe(0x400000n);
    expect(image.ccb.entryPoints).toEqual({ init: 0x401000n, vmexit: 0x401010n, run: 0x401020n });
  });

  it('may have an empty PT_LOAD at address 0, as ld makes for an empty .rodata', () => {
    const spec = minimalPayload();
    spec.programHeaders.push({ type: 1, flags: 4, section: '.got' });
    // prettier-ignore
    spec.sections.splice(6, 0, {
      name: '.got', type: 1, flags: 1, segment: 'ro', alignment: 8, entrySize: 0, link: null, bytes: new Uint8Array(0),
    });
    const elf = assemble(spec);
    elf.phdr(6, 'vaddr', 0);
    elf.phdr(6, 'offset', 0xffff_ffff);
    expect(parseElf(elf.bytes, TEST_CCB_RULE).segments).toHaveLength(3);
  });

  it('makes whole pages of PT_GNU_RELRO read-only', () => {
    const spec = minimalPayload();
    spec.sections.find(({ name }) => name === '.data')!.alignment = 0x1000;
    spec.programHeaders.push({ type: 0x6474e552, flags: 4, section: '.dynamic' });
    const elf = assemble(spec);
    elf.phdr(6, 'memsz', 0x1000);
    expect(parseElf(elf.bytes, TEST_CCB_RULE).relro).toEqual({ start: 0x2000n, end: 0x3000n });
  });

  it('needs no symbols: a stripped payload loads', () => {
    const spec = minimalPayload();
    spec.sections = spec.sections.filter(({ name }) => !['.symtab', '.strtab'].includes(name));
    expect(load(spec).symbols).toEqual([]);
  });
});

describe('symbols', () => {
  const image = load(minimalPayload());

  // prettier-ignore
  it.each([
    ['the first byte of a function', 0x1010n, { name: 'caretaker_vmexit', offset: 0 }],
    ['a byte inside a function', 0x1013n, { name: 'caretaker_vmexit', offset: 3 }],
    ['bytes after the last function belong to it up to the end of the section', 0x103fn, { name: 'caretaker_run', offset: 31 }],
    ['nothing follows the section', 0x1040n, undefined],
    ['nothing before the first symbol', 0xfffn, undefined],
    ['nothing outside the image', 0xffff_ffff_ffff_ffffn, undefined],
  ])('name an address: %s', (_title, address, expected) => {
    expect(symbolise(image, address)).toEqual(expected);
  });

  it('prefer a function to a label at the same address', () => {
    const spec = minimalPayload();
    const place = { section: '.text', offset: 16 };
    spec.symbols.push({ name: 'aaa', place, size: 0, info: 0x10 });
    spec.symbols.unshift({ name: 'zzz', place, size: 0, info: 0x10 });
    expect(symbolise(load(spec), 0x1011n)).toEqual({ name: 'caretaker_vmexit', offset: 1 });
  });

  it('are found by name, a global one before a local one', () => {
    const spec = minimalPayload();
    spec.symbols.unshift({
      ...{ name: 'caretaker_run', place: { section: '.text', offset: 1 }, size: 1, info: 0x02 },
    });
    expect(symbolNamed(load(spec), 'caretaker_run')).toMatchObject({ address: 0x1020n });
    expect(symbolNamed(image, 'nobody')).toBeUndefined();
  });

  it('that mark an end outside the image are left out, and absolute ones name no address', () => {
    const spec = minimalPayload();
    const place = { section: '.bss', offset: 0x10_0000 };
    spec.symbols.push({ name: 'end_marker', place, size: 0, info: 0x10 });
    spec.symbols.push({ name: 'stack_size', place: 'absolute', size: 0, info: 0x10 });
    const names = load(spec).symbols.map(({ name }) => name);
    expect(names).toEqual(['caretaker_init', 'caretaker_vmexit', 'caretaker_run', 'ccb']);
  });
});
