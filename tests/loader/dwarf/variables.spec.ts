/** Variables, parameters and frames, in code whose answers are known. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { hex } from '../../../abi/uint.js';
import { DebugInfo } from '../../../loader/dwarf/debug-info.js';
import { Frames } from '../../../loader/dwarf/frames.js';
import type { FrameRow } from '../../../loader/dwarf/frame-program.js';
import { Functions } from '../../../loader/dwarf/functions.js';
import { Lines } from '../../../loader/dwarf/lines.js';
import { readDebugSections } from '../../../loader/dwarf/sections.js';
import { Variables } from '../../../loader/dwarf/variables.js';
import { referencePayload } from '../../support/reference-payload.js';
import { isHere, titled } from './tools.js';

const folder = mkdtempSync(join(tmpdir(), 'dwarf-variables-'));
afterAll(() => rmSync(folder, { recursive: true }));

function open(bytes: Uint8Array): { functions: Functions; variables: Variables; frames: Frames } {
  const sections = readDebugSections(bytes);
  const info = new DebugInfo(sections);
  const functions = new Functions(info, new Lines(info));
  return {
    functions,
    variables: new Variables(info, functions),
    frames: new Frames(sections, info.budget),
  };
}

const SOURCE = `
unsigned long counter = 7;
int plain(int first, long second)
{
	volatile int local = first;
	{
		volatile char inner = (char)second;
		local += inner;
	}
	return local;
}`;

function compiled(...flags: string[]): Uint8Array {
  writeFileSync(join(folder, 'v.c'), SOURCE);
  const file = join(folder, 'v.elf');
  const options = ['-nostdlib', '-static', '-Wl,-e,0', '-g', ...flags, 'v.c', '-o', file];
  execFileSync('gcc', options, { cwd: folder, stdio: 'ignore' });
  return new Uint8Array(readFileSync(file));
}

describe('the variables at an address', () => {
  it.each(['-gdwarf-4', '-gdwarf-5'])(
    'are at their frame offsets without optimisation: %s',
    (flag) => {
      const { functions, variables } = open(compiled('-O0', flag));
      const { ranges } = functions.all.find(({ name }) => name === 'plain')!;
      const found = variables.at(ranges[0]!.start + 0x14n);
      expect(
        found
          .slice(0, 3)
          .map(({ name, type, isParameter, location }) => [name, type, isParameter, location.kind]),
      ).toEqual([
        ['first', 'int', true, 'cfa'],
        ['second', 'long int', true, 'cfa'],
        ['local', 'volatile int', false, 'cfa'],
      ]);
      const inside = Array.from({ length: 60 }, (_, index) =>
        variables.at(ranges[0]!.start + BigInt(index)),
      );
      expect(inside.some((list) => list.some(({ name }) => name === 'inner'))).toBe(true);
    },
  );

  it.each(['-gdwarf-4', '-gdwarf-5'])(
    'are in registers where optimised code has them: %s',
    (flag) => {
      const { functions, variables } = open(compiled('-O2', flag));
      const { ranges } = functions.all.find(({ name }) => name === 'plain')!;
      const [first, second] = variables.at(ranges[0]!.start);
      expect(first).toMatchObject({ name: 'first', location: { kind: 'register', register: 5 } });
      expect(second).toMatchObject({ name: 'second', location: { kind: 'register', register: 4 } });
    },
  );

  it('include the globals by address', () => {
    const { variables } = open(compiled('-O0'));
    expect(variables.globals()).toMatchObject([
      { name: 'counter', canonical: 'u64', sizeBytes: 8, location: { kind: 'address' } },
    ]);
  });

  it('can be asked for at every address of the payload', () => {
    const { functions, variables } = open(referencePayload());
    let located = 0;
    for (const { ranges } of functions.all) {
      for (const { start, end } of ranges) {
        for (let address = start; address < end; address += 7n) {
          located += variables
            .at(address)
            .filter(({ location }) => location.kind !== 'optimisedOut').length;
        }
      }
    }
    expect(located).toBeGreaterThan(500);
  });
});

/** The rows of readelf's decoded frames: address, CFA, return address. */
function readelfRows(file: string): Map<string, string> {
  const text = execFileSync('readelf', ['--debug-dump=frames-interp', file], {
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  const rows = [...text.matchAll(/^([0-9a-f]{16}) (r\w+)\+(\d+) .*?(c-\d+) *$/gm)];
  return new Map(
    rows.map((match) => [hex(BigInt(`0x${match[1]!}`)), `${match[2]!}+${match[3]!} ${match[4]!}`]),
  );
}

const NAMES: Readonly<Record<number, string>> = { 6: 'rbp', 7: 'rsp' };

function textOf(row: FrameRow | undefined): string {
  const rule = row?.rules.get(row.returnRegister);
  if (row?.cfa.kind !== 'register' || rule?.kind !== 'saved') return 'none';
  return `${NAMES[row.cfa.register] ?? '?'}+${row.cfa.offset} c${rule.offset}`;
}

describe('the frame at an address', () => {
  it.skipIf(!isHere('readelf'))(
    titled("is readelf's in .debug_frame and in .eh_frame", 'readelf'),
    () => {
      let compared = 0;
      const plain = ['-O0', '-fno-asynchronous-unwind-tables', '-fno-unwind-tables'];
      for (const flags of [plain, ['-O2'], ['-O0', '-fno-omit-frame-pointer']]) {
        const bytes = compiled(...flags);
        const sections = readDebugSections(bytes);
        const file = join(folder, 'v.elf');
        const headers = execFileSync('readelf', ['-SW', file], { encoding: 'utf8' });
        const at = /\.eh_frame +PROGBITS +([0-9a-f]+)/.exec(headers)?.[1] ?? '0';
        const frames = new Frames(sections, new DebugInfo(sections).budget, BigInt(`0x${at}`));
        const rows = readelfRows(file);
        // The row at 0 is of what the functions share.
        rows.delete('0x0');
        compared += rows.size;
        for (const [address, expected] of rows)
          expect(textOf(frames.at(BigInt(address)))).toBe(expected);
      }
      expect(compared).toBeGreaterThan(5);
    },
  );

  it('is not there where nothing describes the code', () => {
    expect(open(referencePayload()).frames.at(0x7fff_0000n)).toBeUndefined();
  });
});
