/** Lines, functions and inlined calls: addr2line says the same of every instruction. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, posix } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { hex } from '../../../abi/uint.js';
import { DebugInfo } from '../../../loader/dwarf/debug-info.js';
import { Functions } from '../../../loader/dwarf/functions.js';
import { Lines } from '../../../loader/dwarf/lines.js';
import { readDebugSections } from '../../../loader/dwarf/sections.js';
import { referencePayload } from '../../support/reference-payload.js';
import { isHere, titled } from './tools.js';

const folder = mkdtempSync(join(tmpdir(), 'dwarf-lines-'));
afterAll(() => rmSync(folder, { recursive: true }));

interface Reader {
  readonly lines: Lines;
  readonly functions: Functions;
}

function open(bytes: Uint8Array): Reader {
  const info = new DebugInfo(readDebugSections(bytes));
  const lines = new Lines(info);
  return { lines, functions: new Functions(info, lines) };
}

/** Where the instructions of .text begin, as objdump finds them. */
function instructions(file: string): bigint[] {
  const flags = ['-d', '--no-show-raw-insn', '-j', '.text', file];
  const text = execFileSync('objdump', flags, { encoding: 'utf8', maxBuffer: 1 << 26 });
  // Padding between functions belongs to nobody; addr2line falls back to the symbol before it.
  const isPadding = /\t(?:data16 |cs )*(?:nop|xchg +%ax,%ax|int3)/;
  const code = text
    .split('\n')
    .filter((line) => !isPadding.test(line))
    .join('\n');
  return [...code.matchAll(/^ +([0-9a-f]+):\t/gm)].map((match) => BigInt(`0x${match[1]!}`));
}

const place = (file: string, line: number): string => `${posix.normalize(file)}:${line}`;

/** `function file:line` of each frame, innermost first, address by address. */
function addr2line(file: string, addresses: readonly bigint[]): string[][] {
  const text = execFileSync('addr2line', ['-a', '-i', '-f', '-e', file], {
    input: addresses.map((address) => hex(address)).join('\n'),
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  return text
    .split(/^0x[0-9a-f]{16}\n/m)
    .slice(1)
    .map((part) => {
      const words = part.trim().split('\n');
      return words.flatMap((word, index) => {
        if (index % 2 === 0) return [];
        const [path = '', line = ''] = word
          .replace(/ \(discriminator \d+\)$/, '')
          .split(/:(?=[^:]*$)/);
        return [`${words[index - 1]!} ${place(path, line === '?' ? 0 : Number(line))}`];
      });
    });
}

/** Ours in the same form; assembly has no function entry, and its names come from the symbols as addr2line's do. */
function ours({ lines, functions }: Reader, address: bigint, theirs: readonly string[]): string[] {
  const chain = functions.chainAt(address);
  const symbol = theirs[0]?.split(' ')[0] ?? '??';
  const frames = chain.length > 0 ? chain : [{ name: symbol, place: lines.at(address) }];
  return frames.map(({ name, place: at }) => `${name} ${place(at?.file ?? '??', at?.line ?? 0)}`);
}

const tools = ['addr2line', 'objdump'];
const isSkipped = !tools.every(isHere);

describe('lines', () => {
  it.skipIf(isSkipped)(
    titled("are addr2line's at every instruction of the payload", ...tools),
    () => {
      const file = join(folder, 'payload.elf');
      writeFileSync(file, referencePayload());
      const reader = open(referencePayload());
      const addresses = instructions(file);
      expect(addresses.length).toBeGreaterThan(1000);
      const theirs = addr2line(file, addresses);
      addresses.forEach((address, index) => {
        expect([hex(address), ...ours(reader, address, theirs[index]!)]).toEqual([
          hex(address),
          ...theirs[index]!,
        ]);
      });
    },
  );

  // prettier-ignore
  it.each([
    ['gcc', '-gdwarf-4', '-O2'], ['gcc', '-gdwarf-5', '-O2'], ['clang', '-gdwarf-4', '-O2'], ['clang', '-gdwarf-5', '-O2'],
    ['gcc', '-gdwarf-5', '-O0'], ['clang', '-gdwarf-5', '-O1'],
  ])("are addr2line's for inlined calls: %s %s %s", (compiler, ...flags) => {
    if (isSkipped || !isHere(compiler)) return;
    const source = join(folder, 'inline.c');
    writeFileSync(source, `
static inline __attribute__((always_inline)) int twice(int x)
{
	return x * 2;
}
static inline __attribute__((always_inline)) int outer(int x)
{
	int y = twice(x) + 1;
	if (y > 3) {
		for (int i = 0; i < x; i++) y += twice(y);
	}
	return y;
}
int first(int a) { return outer(a) + twice(a); }
__attribute__((section(".text.unlikely"))) int second(int a) { return outer(a) - 7; }
`);
    const file = join(folder, 'inline.elf');
    execFileSync(compiler, ['-g', ...flags, '-nostdlib', '-shared', '-fpic', source, '-o', file], { stdio: 'ignore' });
    const reader = open(new Uint8Array(readFileSync(file)));
    const addresses = instructions(file);
    const theirs = addr2line(file, addresses);
    expect(addresses.map((address, index) => ours(reader, address, theirs[index]!))).toEqual(theirs);
  });

  it('lead back to the addresses where their code begins', () => {
    const reader = open(referencePayload());
    const { name, ranges } = reader.functions.all.find((one) => one.name === 'caretaker_dispatch')!;
    const at = reader.lines.at(ranges[0]!.start)!;
    expect(name).toBe('caretaker_dispatch');
    expect(at.file).toMatch(/dispatch\.c$/);
    expect(reader.lines.addressesOf('dispatch.c', at.line)).toContain(ranges[0]!.start);
    expect(reader.lines.addressesOf('no-such-file.c', 1)).toEqual([]);
    expect(reader.lines.files).toContain(at.file);
  });

  it('are none outside the code', () => {
    const reader = open(referencePayload());
    expect(reader.lines.at(0x7fff_0000n)).toBeUndefined();
    expect(reader.lines.at(1n << 63n)).toBeUndefined();
    expect(reader.functions.chainAt(0x7fff_0000n)).toEqual([]);
  });
});
