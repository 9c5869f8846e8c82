import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buildIdentityTables, leafMappings } from '../../emulator/memory/page-tables.js';
import { PhysicalMemory } from '../../emulator/memory/physical-memory.js';
import { parseElf } from '../../loader/elf.js';
import { identityRanges, place, spanPages, symboliseAt } from '../../loader/place.js';
import { writeImage } from '../../loader/write.js';
import { TEST_CCB_RULE, assemble, minimalExec, minimalPayload } from '../support/elf-builder.js';
import type { ElfSpec } from '../support/elf-builder.js';

const BASE = 0x4_0000n;

const parse = (spec: ElfSpec) => parseElf(assemble(spec).bytes, TEST_CCB_RULE);

/** A payload whose .dynamic is read-only once relocated. */
function withRelro(): ElfSpec {
  const spec = minimalPayload();
  spec.sections.find(({ name }) => name === '.data')!.alignment = 0x1000;
  spec.programHeaders.push({ type: 0x6474e552, flags: 4, section: '.dynamic' });
  return spec;
}

describe('a placed image', () => {
  const image = parse(minimalPayload());

  it('has whole pages in address order, each with the rights of its segment', () => {
    const { ranges } = place(image, BASE);
    expect(
      ranges.map(({ base, sizeBytes, permissions }) => [base, sizeBytes, permissions]),
    ).toEqual([
      [BASE, 0x1000, 'R'],
      [BASE + 0x1000n, 0x1000, 'RX'],
      [BASE + 0x2000n, 0x3000, 'RW'],
    ]);
  });

  it('has a guard page before and after, inside its span and in no range', () => {
    const { span, ranges } = place(image, BASE);
    expect(span).toEqual({ base: BASE - 0x1000n, sizeBytes: 0x7000 });
    expect(spanPages(image)).toBe(7);
    expect(ranges[0]!.base).toBe(span.base + 0x1000n);
  });

  it('has base plus addend at each relocated place, and its entry points moved alike', () => {
    const loaded = place(image, BASE);
    const memory = new PhysicalMemory(new ArrayBuffer(0x10_0000));
    writeImage(loaded, memory);
    const { address, entryPoints } = loaded.ccb;
    expect([16n, 24n, 32n].map((at) => memory.readU64(address + at))).toEqual([
      entryPoints['init'],
      entryPoints['vmexit'],
      entryPoints['run'],
    ]);
    expect(memory.readU64(address)).toBe(TEST_CCB_RULE.magic.value);
    expect(loaded.entry).toBe(BASE + 0x1010n);
    expect(memory.readU8(loaded.entry)).toBe(0x90);
  });

  it('overwrites all of its pages and nothing beside them', () => {
    const memory = new PhysicalMemory(new ArrayBuffer(0x10_0000));
    memory.fill(0n, 0x10_0000, 0xcc);
    const loaded = place(image, BASE);
    writeImage(loaded, memory);
    const touched = (at: bigint): boolean => memory.read(at, 0x1000).some((byte) => byte !== 0xcc);
    expect(touched(BASE - 0x1000n)).toBe(false);
    expect(touched(BASE + 0x5000n)).toBe(false);
    const bss = image.sections.find(({ name }) => name === '.bss')!;
    expect(memory.read(bss.address + BASE, bss.sizeBytes).every((byte) => byte === 0)).toBe(true);
  });

  it('shares no bytes with another instance of the same image', () => {
    const [first, second] = [place(image, BASE), place(image, BASE)];
    first.ranges[2]!.bytes.fill(0xff);
    expect(second.ranges[2]!.bytes).toEqual(place(image, BASE).ranges[2]!.bytes);
  });

  it('names addresses where it lies', () => {
    const loaded = place(image, BASE);
    expect(symboliseAt(loaded, BASE + 0x1012n)).toEqual({ name: 'caretaker_vmexit', offset: 2 });
    expect(symboliseAt(loaded, 0x1012n)).toBeUndefined();
  });

  it('has read-only pages where PT_GNU_RELRO says so', () => {
    const elf = assemble(withRelro());
    elf.phdr(6, 'memsz', 0x1000);
    const loaded = place(parseElf(elf.bytes, TEST_CCB_RULE), BASE);
    expect(loaded.ranges.map(({ base, permissions }) => [base - BASE, permissions])).toEqual([
      [0n, 'R'],
      [0x1000n, 'RX'],
      [0x2000n, 'R'],
      [0x3000n, 'RW'],
    ]);
  });

  it('is at its link address when it is ET_EXEC', () => {
    const exec = parse(minimalExec(0x40_0000));
    const loaded = place(exec, 0x40_0000n);
    expect(loaded).toMatchObject({ slide: 0n, entry: 0x401010n });
  });

  it('is mapped by identity tables exactly as planned, never writable and executable', () => {
    const base = fc.integer({ min: 1, max: 200 }).map((page) => BigInt(page) * 0x1000n);
    fc.assert(
      fc.property(base, (at) => {
        const memory = new PhysicalMemory(new ArrayBuffer(0x20_0000));
        const loaded = place(image, at);
        writeImage(loaded, memory);
        let next = 0x10_0000n;
        const cr3 = buildIdentityTables(memory, identityRanges(loaded), () => (next += 0x1000n));
        const runs = leafMappings(memory, cr3);
        expect(runs.map(({ linear, sizeBytes }) => [linear, sizeBytes])).toEqual(
          loaded.ranges.map((range) => [range.base, range.sizeBytes]),
        );
        expect(runs.some((run) => run.writable && run.executable)).toBe(false);
        expect(runs.filter((run) => run.executable).map((run) => run.linear)).toEqual([
          at + 0x1000n,
        ]);
      }),
      { numRuns: 50 },
    );
  });
});
