/** Structure layouts from debug information: pahole reads the same, whoever compiled the file and in whichever version. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { DebugInfo } from '../../../loader/dwarf/debug-info.js';
import { readLayouts } from '../../../loader/dwarf/layouts.js';
import type { Layouts } from '../../../loader/dwarf/layouts.js';
import { readDebugSections } from '../../../loader/dwarf/sections.js';
import { referencePayload } from '../../support/reference-payload.js';
import { generate } from './generated-source.js';
import { membersOf, paholeMembers } from './pahole.js';
import { isHere, titled } from './tools.js';

const folder = mkdtempSync(join(tmpdir(), 'dwarf-'));
afterAll(() => rmSync(folder, { recursive: true }));

const layoutsOf = (bytes: Uint8Array): Layouts =>
  readLayouts(new DebugInfo(readDebugSections(bytes)));

/** A file of ours and pahole's view of it: every structure that pahole prints is among ours. */
function expectPaholesLayouts(file: string, atLeast: number): void {
  const ours = new Map<string, string[]>();
  for (const layout of layoutsOf(new Uint8Array(readFileSync(file))).structs) {
    const members = membersOf(layout).join('\n');
    ours.set(layout.name, [...(ours.get(layout.name) ?? []), members]);
  }
  const theirs = paholeMembers(file);
  expect(theirs.size).toBeGreaterThanOrEqual(atLeast);
  for (const [name, members] of theirs) {
    const text = members.join('\n');
    const candidates = ours.get(name) ?? [];
    const isUnion = !members.some((member) => member.startsWith('sizeof'));
    const comparable = isUnion
      ? candidates.map((c) => c.replace(/\n?sizeof \d+$/, ''))
      : candidates;
    if (!comparable.includes(text))
      expect(`${name}\n${comparable.join('\n')}`).toBe(`${name}\n${text}`);
  }
}

function compile(compiler: string, source: string, output: string, ...flags: string[]): string {
  const path = join(folder, output);
  execFileSync(
    compiler,
    [
      '-w',
      '-Wno-packed-bitfield-compat',
      '-g',
      '-fno-eliminate-unused-debug-types',
      ...flags,
      '-c',
      source,
      '-o',
      path,
    ],
    {
      cwd: folder,
      stdio: ['ignore', 'ignore', 'inherit'],
    },
  );
  return path;
}

describe('the layouts of the payload', () => {
  it.skipIf(!isHere('pahole'))(titled("are pahole's", 'pahole'), () => {
    const file = join(folder, 'payload.elf');
    writeFileSync(file, referencePayload());
    expectPaholesLayouts(file, 10);
  });

  it('have each structure once, though every unit describes it', () => {
    const names = layoutsOf(referencePayload()).structs.map(({ name }) => name);
    expect(names).toContain('caretaker_ccb');
    expect(new Set(names).size).toBe(names.length);
  });

  it('have enumerators with their values', () => {
    const { enumerations } = layoutsOf(referencePayload());
    const request = enumerations.find(({ name }) => name === 'caretaker_request');
    expect(request).toEqual({
      name: 'caretaker_request',
      size: 4,
      enumerators: [
        { name: 'CARETAKER_REQUEST_NONE', value: 0n },
        { name: 'CARETAKER_REQUEST_STOP', value: 1n },
      ],
    });
  });
});

const { header, sources } = generate(5, 250);
writeFileSync(join(folder, 'types.h'), header);
sources.forEach((text, index) => writeFileSync(join(folder, `unit${index}.c`), text));

describe('the layouts of random structures', () => {
  // prettier-ignore
  it.each([
    ['gcc', '-gdwarf-4'], ['gcc', '-gdwarf-5'], ['clang', '-gdwarf-4'], ['clang', '-gdwarf-5'],
    ['gcc', '-gdwarf-5', '-gz'], ['gcc', '-gdwarf-5', '-gdwarf64'],
  ])("are pahole's: %s %s %s", (compiler, ...flags) => {
    if (!isHere(compiler) || !isHere('pahole')) return;
    const objects = sources.map((_, index) => compile(compiler, `unit${index}.c`, `${index}.o`, ...flags));
    const linked = join(folder, 'linked.elf');
    execFileSync('ld', ['-e', '0', ...objects, '-o', linked]);
    expectPaholesLayouts(linked, 250);
    expectPaholesLayouts(objects[0]!, 250);
  });

  it.each(['-gdwarf-4', '-gdwarf-5'])(
    'are the same from type units, which pahole does not read: %s',
    (flag) => {
      const [plain, units] = [[], ['-fdebug-types-section']].map((flags) => {
        const object = compile('gcc', 'unit0.c', 'types.o', flag, ...flags);
        const { structs } = layoutsOf(new Uint8Array(readFileSync(object)));
        return structs.map((layout) => `${layout.name}: ${membersOf(layout).join()}`).sort();
      });
      expect(units).toEqual(plain);
      expect(units!.length).toBeGreaterThan(250);
    },
  );
});

describe('a layout', () => {
  const read = (text: string, ...flags: string[]): Layouts => {
    writeFileSync(join(folder, 'one.c'), text);
    return layoutsOf(new Uint8Array(readFileSync(compile('gcc', 'one.c', 'one.o', ...flags))));
  };

  it.each(['-gdwarf-4', '-gdwarf-5'])('puts a bit field in its storage unit: %s', (flag) => {
    const { structs } = read('struct s { char c; int a:3; int b:7; } x;', flag);
    expect(
      structs[0]!.fields.map(({ name, offset, size, bitOffset, bitSize }) => [
        name,
        offset,
        size,
        bitOffset,
        bitSize,
      ]),
    ).toEqual([
      ['c', 0, 1, null, null],
      ['a', 0, 4, 8, 3],
      ['b', 0, 4, 11, 7],
    ]);
  });

  it('spells types as C does and resolves typedefs', () => {
    const { structs } = read(
      `typedef unsigned long long u64; struct t; enum e { A };
       struct s { u64 a[3][2]; int (*f)(struct t *, ...); const char *const p; int (*q)[4]; enum e e; signed char c; } x;`,
    );
    expect(structs[0]!.fields.map(({ type, canonical }) => [type, canonical])).toEqual([
      ['u64[3][2]', 'u64[3][2]'],
      ['int (*)(struct t *, ...)', 'function *'],
      ['const char * const', 's8 *'],
      ['int (*)[4]', 's32[4] *'],
      ['enum e', 'enum e:u32'],
      ['signed char', 's8'],
    ]);
  });

  it('flattens anonymous members and nests those that have a name', () => {
    const { structs } = read(
      'typedef struct { int a; struct { int b; }; struct { int c; } d; } named; named x;',
    );
    expect(structs).toMatchObject([
      {
        name: 'named',
        fields: [
          { name: 'a', offset: 0 },
          { name: 'b', offset: 4 },
          { name: 'd', offset: 8, fields: [{ name: 'c', offset: 8 }] },
        ],
      },
    ]);
  });

  it('has the alignment of its members, or the one that the source gives', () => {
    const { structs } = read(
      `struct plain { char c; long l; } a; struct __attribute__((packed)) packed { char c; long l; } b;
       struct __attribute__((aligned(64))) given { char c; } c;`,
    );
    expect(structs).toMatchObject([
      { name: 'plain', align: 8, isPacked: false, isAlignGiven: false },
      { name: 'packed', align: 1, isPacked: true },
      { name: 'given', align: 64, isAlignGiven: true },
    ]);
  });

  it('is there twice when two units disagree', () => {
    writeFileSync(join(folder, 'first.c'), 'struct s { int a; } x;');
    writeFileSync(join(folder, 'second.c'), 'struct s { long a; } y;');
    const objects = ['first', 'second'].map((name) => compile('gcc', `${name}.c`, `${name}.o`));
    const linked = join(folder, 'two.elf');
    execFileSync('ld', ['-e', '0', ...objects, '-o', linked]);
    const { structs } = layoutsOf(new Uint8Array(readFileSync(linked)));
    expect(structs.map(({ size }) => size)).toEqual([4, 8]);
  });
});
