/** Lines, functions and inlined calls of the payload, by either compiler in either DWARF: addr2line says the same of every address. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, posix } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { hex } from '../../../abi/uint.js';
import { PayloadProgram } from '../../../emulator/debug/source/payload-program.js';
import { SourceMap } from '../../../emulator/debug/source/source-map.js';
import { CCB_RULE } from '../../../emulator/host/kvm/ccb-rule.js';
import { parseElf } from '../../../loader/elf.js';
import { sectionNamed } from '../../../loader/image.js';
import type { CaretakerImage } from '../../../loader/image.js';
import { isHere, titled } from '../../loader/dwarf/tools.js';
import { builtPayload, DWARF_VERSIONS } from './built-payload.js';

const folder = mkdtempSync(join(tmpdir(), 'source-map-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Between two units addr2line names no file at all. */
const normal = (path: string): string => (path === '' ? '??' : posix.normalize(path));

type Frame = readonly [name: string, file: string, line: number];

/** What a reader says of each address, innermost frame first. */
function read(program: string, file: string, addresses: readonly bigint[]): Frame[][] {
  const text = execFileSync(program, ['-a', '-i', '-f', '-e', file], {
    input: addresses.map((address) => hex(address)).join('\n'),
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  return text
    .split(/^0x[0-9a-f]+\n/m)
    .slice(1)
    .map((part) => {
      const words = part.trim().split('\n');
      return words.flatMap((word, index) => {
        if (index % 2 === 0) return [];
        const place = word.replace(/ \(discriminator \d+\)$/, '');
        const [path = '', line = ''] = place.split(/:(?=[^:]*$)/);
        const frame: Frame = [words[index - 1]!, normal(path), line === '?' ? 0 : Number(line)];
        return [frame];
      });
    });
}

const SLIDE = 0x7_1234_5000n;

function textOf(image: CaretakerImage): bigint[] {
  const text = sectionNamed(image, '.text')!;
  return Array.from({ length: text.sizeBytes }, (_, index) => text.address + BigInt(index));
}

/** The version in the header of the first line table. */
function versionOf(image: CaretakerImage): number {
  const { bytes } = sectionNamed(image, '.debug_line')!;
  return new DataView(bytes.buffer, bytes.byteOffset).getUint16(4, true);
}

function ours(image: CaretakerImage, addresses: readonly bigint[]): Frame[][] {
  const map = new SourceMap(new PayloadProgram(image), SLIDE);
  return addresses.map((address) =>
    map.chainAt(SLIDE + address).map(({ name, place }): Frame => {
      return [name, normal(place?.file ?? '??'), place?.line ?? 0];
    }),
  );
}

function written(bytes: Uint8Array): string {
  const file = join(folder, 'payload.elf');
  writeFileSync(file, bytes);
  return file;
}

/** Addresses at which two readers do not say the same, with what they say. */
function differences(
  addresses: readonly bigint[],
  one: readonly unknown[],
  other: readonly unknown[],
): unknown[] {
  return addresses.flatMap((address, index) => {
    const [mine, theirs] = [JSON.stringify(one[index]), JSON.stringify(other[index])];
    return mine === theirs ? [] : [[hex(address), mine, theirs]];
  });
}

describe.each(DWARF_VERSIONS)('the source of an address, by DWARF %i', (dwarf) => {
  it.skipIf(!isHere('addr2line'))(
    titled("is addr2line's at every address of .text that gcc made", 'addr2line'),
    () => {
      const bytes = builtPayload('gcc', dwarf)!;
      const image = parseElf(bytes, CCB_RULE);
      expect(versionOf(image)).toBe(dwarf);
      const addresses = textOf(image);
      expect(addresses.length).toBeGreaterThan(8192);
      const theirs = read('addr2line', written(bytes), addresses);
      expect(differences(addresses, ours(image, addresses), theirs)).toEqual([]);
    },
  );

  const clang = builtPayload('clang', dwarf);

  // GNU addr2line does not read clang's inlined calls nor its hidden labels; its lines it reads.
  it.skipIf(!isHere('addr2line') || clang === null)(
    titled("has addr2line's line at every address of .text that clang made", 'addr2line', 'clang'),
    () => {
      const image = parseElf(clang!, CCB_RULE);
      expect(versionOf(image)).toBe(dwarf);
      const addresses = textOf(image);
      const theirs = read('addr2line', written(clang!), addresses);
      const lineOf = ([frame]: readonly Frame[]): unknown =>
        frame![2] === 0 ? 0 : [frame![1], frame![2]];
      const mine = ours(image, addresses);
      expect(differences(addresses, mine.map(lineOf), theirs.map(lineOf))).toEqual([]);
    },
  );

  it.skipIf(!isHere('llvm-addr2line') || clang === null)(
    titled("has LLVM's inlined calls at every address that clang made", 'llvm-addr2line', 'clang'),
    () => {
      const image = parseElf(clang!, CCB_RULE);
      // Padding between functions is nobody's, and each reader has its own way with it.
      const { functions } = new PayloadProgram(image).debug!;
      const addresses = textOf(image).filter((one) => functions.scopesAt(one).length > 0);
      expect(addresses.length).toBeGreaterThan(4096);
      const theirs = read('llvm-addr2line', written(clang!), addresses);
      const mine = ours(image, addresses);
      expect(differences(addresses, mine, theirs)).toEqual([]);
    },
  );
});
