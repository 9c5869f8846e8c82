/** Hostile debug information: whatever its bytes, reading ends soon, in values or in a DwarfError. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { Budget } from '../../../loader/dwarf/budget.js';
import { Cursor } from '../../../loader/dwarf/cursor.js';
import { DebugInfo } from '../../../loader/dwarf/debug-info.js';
import { DWARF_RULES, DwarfError } from '../../../loader/dwarf/errors.js';
import type { DwarfErrorCode } from '../../../loader/dwarf/errors.js';
import { Frames } from '../../../loader/dwarf/frames.js';
import { Functions } from '../../../loader/dwarf/functions.js';
import { readLayouts } from '../../../loader/dwarf/layouts.js';
import { Lines } from '../../../loader/dwarf/lines.js';
import { readDebugSections } from '../../../loader/dwarf/sections.js';
import type { DebugSections } from '../../../loader/dwarf/sections.js';
import { Variables } from '../../../loader/dwarf/variables.js';

const folder = mkdtempSync(join(tmpdir(), 'dwarf-hostile-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Everything that can be read of a file; the code of its refusal, or null. */
function readAll(read: () => DebugSections): DwarfErrorCode | null {
  try {
    const sections = read();
    const info = new DebugInfo(sections);
    readLayouts(info);
    const lines = new Lines(info);
    const functions = new Functions(info, lines);
    const variables = new Variables(info, functions);
    const frames = new Frames(sections, info.budget);
    for (let address = 0n; address < 64n; address += 5n) {
      functions.chainAt(address);
      variables.at(address);
      frames.at(address);
    }
    variables.globals();
    return null;
  } catch (error) {
    if (error instanceof DwarfError) return error.code;
    throw error;
  }
}

function compiled(...flags: string[]): Uint8Array {
  writeFileSync(
    join(folder, 'h.c'),
    `struct s { int a:3; struct { char c; } d[2]; union { long l; void (*f)(struct s *); }; } g;
     enum e { A = -1 } e; static inline int in(int x) { return x + g.a; } int f(int x) { int y = in(x); return y * x; }`,
  );
  const file = join(folder, 'h.elf');
  execFileSync(
    'gcc',
    ['-w', '-g', '-O1', '-nostdlib', '-static', '-Wl,-e,0,-Ttext=0', ...flags, 'h.c', '-o', file],
    {
      cwd: folder,
      stdio: 'ignore',
    },
  );
  return new Uint8Array(readFileSync(file));
}

const files = [
  compiled('-gdwarf-4'),
  compiled('-gdwarf-5'),
  compiled('-gdwarf-5', '-fdebug-types-section', '-gz'),
];

describe('mutated debug information', () => {
  it('is read whole when nothing is changed', () => {
    for (const file of files) expect(readAll(() => readDebugSections(file))).toBeNull();
  });

  it('ends in values or in a DwarfError, byte by byte in the sections', () => {
    const originals = files.map((file) => readDebugSections(file));
    const seen = new Set<DwarfErrorCode | null>();
    fc.assert(
      fc.property(
        fc.nat(originals.length - 1),
        fc.array(fc.tuple(fc.nat(20), fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        fc.option(fc.nat()),
        (which, changes, cut) => {
          const sections = new Map(
            [...originals[which]!].map(([name, bytes]) => [name, new Uint8Array(bytes)]),
          );
          const names = [...sections.keys()];
          for (const [section, at, value] of changes) {
            const bytes = sections.get(names[section % names.length]!)!;
            bytes[at % bytes.length] = value;
          }
          if (cut !== null) {
            const name = names[cut % names.length]!;
            const bytes = sections.get(name)!;
            sections.set(name, bytes.subarray(0, cut % bytes.length));
          }
          seen.add(readAll(() => sections));
        },
      ),
      { numRuns: 1500 },
    );
    expect(seen.size).toBeGreaterThan(5);
  });

  it('ends in values or in a DwarfError, byte by byte in the file', () => {
    fc.assert(
      fc.property(fc.nat(files.length - 1), fc.nat(), fc.nat(255), (which, at, value) => {
        const bytes = new Uint8Array(files[which]!);
        const headers = bytes.length - 64 * 24;
        bytes[at % 3 === 0 ? at % 64 : headers + (at % (64 * 24))] = value;
        readAll(() => readDebugSections(bytes));
      }),
      { numRuns: 500 },
    );
  });
});

/** Sections of one version-4 unit with the abbreviations and entries given. */
function unit(
  abbreviations: number[],
  entries: number[],
  more: Record<string, number[]> = {},
): DebugSections {
  const length = 7 + entries.length;
  const info = [length & 255, length >> 8, 0, 0, 4, 0, 0, 0, 0, 0, 8, ...entries];
  const all = { '.debug_abbrev': abbreviations, '.debug_info': info, ...more };
  return new Map(Object.entries(all).map(([name, bytes]) => [name, Uint8Array.from(bytes)]));
}

const ROOT = [1, 0x11, 1, 0, 0];
const elf = (change: (view: DataView) => void): DebugSections => {
  const bytes = new Uint8Array(files[0]!);
  change(new DataView(bytes.buffer));
  return readDebugSections(bytes);
};
const sectionHeader = (view: DataView, name: string): number => {
  const table = view.getUint32(40, true);
  const names = view.getUint32(table + view.getUint16(62, true) * 64 + 24, true);
  for (let at = table; at < view.byteLength; at += 64) {
    const start = names + view.getUint32(at, true);
    const text = String.fromCharCode(...new Uint8Array(view.buffer, start, name.length + 1));
    if (text === `${name}\0`) return at;
  }
  throw new Error(name);
};

describe('a refusal', () => {
  // prettier-ignore
  const rows: readonly (readonly [code: DwarfErrorCode, what: string, sections: () => DebugSections])[] = [
    ['NOT_ELF', 'another magic', () => readDebugSections(new Uint8Array(64))],
    ['BAD_SECTION', 'a section past the end', () => elf((view) => view.setUint32(sectionHeader(view, '.debug_info') + 24, 0x7fff_ffff, true))],
    ['BAD_COMPRESSION', 'compressed, and no zlib', () => elf((view) => view.setUint32(sectionHeader(view, '.debug_info') + 8, 0x800, true))],
    ['NO_DEBUG_INFO', 'no sections', () => new Map()],
    ['TRUNCATED', 'an attribute past the end', () => unit([1, 0x11, 0, 0x10, 6, 0, 0, 0], [1, 0])],
    ['NUMBER_TOO_LARGE', 'an address above 2^53', () => unit([1, 0x11, 0, 0x11, 1, 0, 0, 0], [1, 255, 255, 255, 255, 255, 255, 255, 255])],
    ['BAD_UNIT', 'a unit longer than its section', () => new Map(unit(ROOT, [0])).set('.debug_info', Uint8Array.of(99, 0, 0, 0, 4, 0))],
    ['UNSUPPORTED_VERSION', 'version 6', () => new Map(unit(ROOT, [0])).set('.debug_info', Uint8Array.of(3, 0, 0, 0, 6, 0, 0))],
    ['BAD_ABBREVIATION', 'an entry without abbreviation', () => unit([...ROOT, 0], [9])],
    ['BAD_FORM', 'form 0x7f', () => unit([1, 0x11, 0, 3, 0x7f, 0, 0, 0], [1, 0, 0])],
    ['BAD_REFERENCE', 'a type that is no entry', () =>
      unit([...ROOT, 2, 0x16, 0, 3, 8, 0x49, 0x11, 0, 0, 0], [1, 2, 0x61, 0, 77, 0])],
    ['BAD_STRING', 'a name without an end', () => unit([...ROOT, 2, 0x13, 0, 3, 8, 0, 0, 0], [1, 2, 0x61, 0x61])],
    ['TYPE_CYCLE', 'a typedef of itself', () =>
      unit([...ROOT, 2, 0x13, 1, 3, 8, 0, 0, 3, 0x0d, 0, 0x49, 0x11, 0, 0, 4, 0x16, 0, 0x49, 0x11, 0, 0, 0],
        [1, 2, 0x61, 0, 3, 18, 0, 4, 18, 0])],
    ['BAD_LIST', 'a range entry of kind 99', () =>
      unit([1, 0x11, 1, 0, 0, 2, 0x2e, 0, 0x55, 0x23, 0, 0, 0], [1, 2, 0, 0], { '.debug_rnglists': [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 99] })],
    ['BAD_LINE_PROGRAM', 'a line range of 0', () =>
      unit([1, 0x11, 0, 0x10, 6, 0, 0, 0], [1, 0, 0, 0, 0], { '.debug_line': [20, 0, 0, 0, 3, 0, 9, 0, 0, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0] })],
    ['BAD_EXPRESSION', 'operation 0', () =>
      unit([...ROOT, 2, 0x34, 0, 3, 8, 2, 0x18, 0, 0, 0], [1, 2, 0x61, 0, 1, 0, 0])],
    ['BAD_FRAME', 'a description without common information', () =>
      unit([1, 0x11, 0, 0, 0, 0], [1], { '.debug_frame': [8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] })],
  ];

  it.each(rows)('%s: %s', (code, _what, sections) => {
    expect(readAll(sections)).toBe(code);
  });

  it('TOO_MUCH_WORK: more steps than the file has bytes for', () => {
    const budget = new Budget(0);
    expect(() => {
      for (;;) budget.spend(1 << 16);
    }).toThrow(expect.objectContaining({ code: 'TOO_MUCH_WORK' }) as Error);
  });

  it('has a row for every code there is', () => {
    const provoked = new Set([...rows.map(([code]) => code), 'TOO_MUCH_WORK']);
    expect(Object.keys(DWARF_RULES).filter((code) => !provoked.has(code))).toEqual([]);
  });

  it('names section and offset', () => {
    const cursor = new Cursor('.debug_info', new Uint8Array(4), 2);
    expect(() => cursor.u64()).toThrow(
      expect.objectContaining({
        details: expect.objectContaining({ section: '.debug_info' }) as unknown,
      }) as Error,
    );
  });
});
