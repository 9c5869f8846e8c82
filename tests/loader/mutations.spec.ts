import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { parseElf } from '../../loader/elf.js';
import { LoaderError } from '../../loader/errors.js';
import { place } from '../../loader/place.js';
import { TEST_CCB_RULE, assemble, minimalExec, minimalPayload } from '../support/elf-builder.js';

type Mutation = (bytes: Uint8Array) => Uint8Array;

const originals = [minimalPayload(), minimalExec()].map((spec) => assemble(spec).bytes);

const at = fc.oneof(
  fc.integer({ min: 0, max: 0x3fff }),
  // The header and the program headers, where most of what matters is.
  fc.integer({ min: 0, max: 0x1ff }),
);
const interesting = fc.constantFrom(
  ...[0n, 1n, 0x7fn, 0xfffn, 0x1000n, 0xffffn, 0x7fff_ffffn, 0xffff_ffffn],
  ...[1n << 47n, 1n << 53n, (1n << 63n) - 1n, (1n << 64n) - 1n, (1n << 64n) - 0x1000n],
);

const flip = fc.tuple(at, fc.integer({ min: 1, max: 255 })).map(([where, mask]): Mutation => {
  return (bytes) => {
    bytes[where % bytes.length]! ^= mask;
    return bytes;
  };
});
const poke = fc
  .tuple(at, fc.constantFrom(1, 2, 4, 8), interesting)
  .map(([where, size, value]): Mutation => (bytes) => {
    const start = (where % bytes.length) & -size;
    for (let i = 0; i < size && start + i < bytes.length; i++) {
      bytes[start + i] = Number((value >> BigInt(i * 8)) & 0xffn);
    }
    return bytes;
  });
const cut = at.map(
  (where): Mutation =>
    (bytes) =>
      bytes.slice(0, where % bytes.length),
);
const splice = fc
  .tuple(at, at, fc.integer({ min: 1, max: 256 }))
  .map(([from, to, length]): Mutation => (bytes) => {
    bytes.copyWithin(to % bytes.length, from % bytes.length, (from % bytes.length) + length);
    return bytes;
  });
const grow = fc.integer({ min: 1, max: 100_000 }).map((more): Mutation => (bytes) => {
  const grown = new Uint8Array(bytes.length + more).fill(0x41);
  grown.set(bytes);
  return grown;
});

const mutations = fc.array(fc.oneof(flip, poke, poke, cut, splice, grow), {
  minLength: 1,
  maxLength: 6,
});
const file = fc
  .tuple(fc.nat({ max: originals.length - 1 }), mutations)
  .map(([which, changes]) =>
    changes.reduce<Uint8Array>((bytes, change) => change(bytes), originals[which]!.slice()),
  );

const folder = mkdtempSync(join(tmpdir(), 'caretaker-mutations-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** What readelf calls an error in a file; a warning about what nobody loads is none. */
function readelfErrors(bytes: Uint8Array): string[] {
  const file = join(folder, 'mutated.elf');
  writeFileSync(file, bytes);
  const { stderr } = spawnSync('readelf', ['-W', '-h', '-l', '-S', '-r', file], {
    encoding: 'utf8',
  });
  return stderr.split('\n').filter((line) => line.includes('Error'));
}

describe('a mutated payload file', () => {
  it('is refused with a LoaderError or is an image that can be placed', () => {
    const seen = new Set<string>();
    fc.assert(
      fc.property(file, (bytes) => {
        try {
          const image = parseElf(bytes, TEST_CCB_RULE);
          const base = image.type === 'ET_EXEC' ? image.pages.start : 0x10_0000n;
          const loaded = place(image, base);
          seen.add('accepted');
          expect(loaded.ranges.every((range) => range.bytes.length === range.sizeBytes)).toBe(true);
        } catch (error) {
          if (!(error instanceof LoaderError)) throw error;
          seen.add(error.code);
        }
      }),
      { numRuns: 6000 },
    );
    // The mutations must reach every check, not stop at the header.
    expect(seen).toContain('accepted');
    expect(seen.size).toBeGreaterThan(40);
  });

  const reason = spawnSync('readelf', ['--version']).status === 0 ? '' : '(no readelf)';

  it.skipIf(reason !== '')(`that is accepted is one that readelf reads too ${reason}`, () => {
    const isAccepted = (bytes: Uint8Array): boolean => {
      try {
        return parseElf(bytes, TEST_CCB_RULE).segments.length > 0;
      } catch {
        return false;
      }
    };
    const accepted = fc.sample(file, 1000).filter(isAccepted).slice(0, 25);
    expect(accepted).toHaveLength(25);
    for (const bytes of accepted) expect(readelfErrors(bytes)).toEqual([]);
  });
});
