/**
 * abidiff as a second opinion on pairs of binaries: what it finds is found here, and what it lets pass or does not tell
 * apart has rules of its own here.
 *
 * Source: abidiff of libabigail, whose status is a sum: 4 for a change, 8 for one that it is sure breaks the ABI.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { diffAbi } from '../../abi/compat/diff.js';
import { isCompatible } from '../../abi/compat/rules.js';
import type { RuleId } from '../../abi/compat/rules.js';
import { abiOf } from '../../emulator/cli/abi-file.js';

const folder = mkdtempSync(join(tmpdir(), 'abidiff-'));
afterAll(() => rmSync(folder, { recursive: true }));

interface Pair {
  readonly what: string;
  readonly old: string;
  readonly now: string;
  readonly rules: readonly RuleId[];
  readonly mayReplace: boolean;
  /** What abidiff ends with. */
  readonly abidiff: 0 | 4 | 12;
}

const ROOM = 'struct s { long a; int b; int c; long reserved[2]; };';

// prettier-ignore
const PAIRS: readonly Pair[] = [
  { what: 'nothing', old: ROOM, now: ROOM, rules: [], mayReplace: true, abidiff: 0 },
  { what: 'two fields that change places', old: ROOM, now: 'struct s { long a; int c; int b; long reserved[2]; };',
    rules: ['field-moved', 'field-moved'], mayReplace: false, abidiff: 4 },
  { what: 'a field in reserved bytes', old: ROOM, now: 'struct s { long a; int b; int c; long d; long reserved[1]; };',
    rules: ['field-appended', 'reserved-reshaped'], mayReplace: true, abidiff: 4 },
  { what: 'a field that became reserved', old: ROOM, now: 'struct s { long a; int b; int pad; long reserved[2]; };',
    rules: ['field-missing', 'reserved-reshaped'], mayReplace: false, abidiff: 0 },
  { what: 'a larger structure', old: ROOM, now: 'struct s { long a; int b; int c; long reserved[2]; long d; };',
    rules: ['struct-size', 'field-unexpected'], mayReplace: false, abidiff: 4 },
  { what: 'a smaller structure', old: ROOM, now: 'struct s { long a; int b; int c; long reserved[1]; };',
    rules: ['struct-size', 'reserved-reshaped'], mayReplace: false, abidiff: 4 },
  { what: 'a sign', old: ROOM, now: 'struct s { long a; unsigned b; int c; long reserved[2]; };',
    rules: ['field-signedness'], mayReplace: false, abidiff: 4 },
  { what: 'a field by halves', old: ROOM, now: 'struct s { int a[2]; int b; int c; long reserved[2]; };',
    rules: ['field-retyped'], mayReplace: false, abidiff: 4 },
  { what: 'another array', old: 'struct s { int a[2][3]; };', now: 'struct s { int a[3][2]; };',
    rules: ['field-retyped'], mayReplace: false, abidiff: 4 },
  { what: 'a pointer to something else', old: 'struct s { int *a; };', now: 'struct s { long *a; };',
    rules: ['field-retyped'], mayReplace: false, abidiff: 4 },
  { what: 'a bit field at other bits', old: 'struct s { int a : 3, b : 5; };', now: 'struct s { int b : 5, a : 3; };',
    rules: ['field-bits', 'field-bits'], mayReplace: false, abidiff: 4 },
  { what: 'an enumerator that means another number', old: 'enum e { A, B }; struct s { enum e a; };',
    now: 'enum e { B, A }; struct s { enum e a; };', rules: ['constant-value', 'constant-value'], mayReplace: false, abidiff: 4 },
  { what: 'an enumerator that is gone', old: 'enum e { A, B }; struct s { enum e a; };',
    now: 'enum e { A }; struct s { enum e a; };', rules: ['constant-missing'], mayReplace: false, abidiff: 4 },
  { what: 'a structure inside that changed', old: 'struct t { int x, y; }; struct s { struct t a; };',
    now: 'struct t { int y, x; }; struct s { struct t a; };', rules: ['field-moved', 'field-moved'], mayReplace: false, abidiff: 4 },
  { what: 'a nameless structure inside that changed', old: 'struct s { struct { int x, y; } a; };',
    now: 'struct s { struct { int y, x; } a; };', rules: ['field-moved', 'field-moved'], mayReplace: false, abidiff: 4 },
  { what: 'an anonymous union that lost a member', old: 'struct s { union { int x; unsigned char y; }; };',
    now: 'struct s { union { int x; }; };', rules: ['field-missing'], mayReplace: false, abidiff: 0 },
  { what: 'a structure that is packed', old: 'struct s { char a; long b; };',
    now: 'struct __attribute__((packed)) s { char a; long b; };', rules: ['struct-size', 'struct-align', 'field-moved'], mayReplace: false, abidiff: 4 },
  { what: 'a renamed field', old: ROOM, now: 'struct s { long a; int b; int when; long reserved[2]; };',
    rules: ['field-renamed'], mayReplace: false, abidiff: 0 },
  { what: 'an enumerator more', old: 'enum e { A }; struct s { enum e a; };', now: 'enum e { A, B }; struct s { enum e a; };',
    rules: ['constant-added'], mayReplace: true, abidiff: 0 },
  { what: 'another alignment alone', old: 'struct __attribute__((aligned(16))) s { long a, b; };',
    now: 'struct s { long a, b; };', rules: ['struct-align'], mayReplace: false, abidiff: 0 },
];

function library(name: string, text: string, ...options: string[]): string {
  const file = join(folder, `${name}.so`);
  const input = `${text}\nstruct s *f(struct s *p) { return p; }\n`;
  execFileSync('gcc', ['-g', '-shared', '-fPIC', ...options, '-x', 'c', '-', '-o', file], {
    input,
  });
  return file;
}

const read = (file: string) => abiOf(new Uint8Array(readFileSync(file)));
const isHere = spawnSync('abidiff', ['--version']).status === 0;
const reason = isHere ? '' : ' (no abidiff here)';

describe('between two binaries', () => {
  it.each(PAIRS)('$what', ({ old, now, rules, mayReplace }) => {
    const [before, after] = [read(library('old', old)), read(library('new', now))];
    if (!('structs' in before) || !('structs' in after)) throw new Error('unread');
    const findings = diffAbi(before, after);
    expect(findings.map(({ rule }) => rule).sort()).toEqual([...rules].sort());
    expect(isCompatible(findings)).toBe(mayReplace);
  });
});

describe.skipIf(!isHere)(`abidiff${reason}`, () => {
  const status = (old: string, now: string): number | null =>
    spawnSync('abidiff', [old, now], { stdio: 'ignore' }).status;

  it.each(PAIRS)('says of $what: $abidiff', ({ old, now, abidiff, rules }) => {
    const said = status(library('old', old), library('new', now));
    expect(said).toBe(abidiff);
    // Whatever it finds has a rule here.
    if (said !== 0) expect(rules).not.toEqual([]);
  });

  it('passes a binary without debug information, which is an error here', () => {
    const [old, now] = [
      library('old', ROOM),
      library('new', ROOM.replace('int b', 'long b'), '-g0'),
    ];
    expect(status(old, now)).toBe(0);
    expect(read(now)).toMatchObject({ rule: 'debug-info-missing', severity: 'error' });
  });
});
