/** Rules of the image and of the code: each is broken by a variant of the payload, and by that one alone. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PROFILES } from '../../abi/compat/profiles.js';
import { RULES } from '../../abi/compat/rules.js';
import type { RuleId } from '../../abi/compat/rules.js';
import { LOADER_ERROR_CODES } from '../../loader/errors.js';
import { checkPayload } from '../../emulator/verify/check-payload.js';
import { ruleOf } from '../../emulator/verify/image-findings.js';
import { buildForeign } from '../foreign/build-foreign.js';
import { CLANG, GCC, PayloadTree, isInstalled } from '../payload/payload-tree.js';
import { HEADER_VARIANTS } from './header-variants.js';
import { FILE_VARIANTS } from './file-variants.js';
import { PAYLOAD_VARIANTS } from './payload-variants.js';

const folder = mkdtempSync(join(tmpdir(), 'verify-'));
const tree = new PayloadTree('verify-');
beforeAll(() => {
  const built = tree.build(GCC);
  if (!built.ok) throw new Error(built.stderr);
});
afterAll(() => {
  tree.remove();
  rmSync(folder, { recursive: true });
});

describe('a payload that follows the contract has no finding', () => {
  it.each([
    ['gcc', GCC],
    ['clang', CLANG],
  ] as const)('built by %s', (_name, toolchain) => {
    if (!isInstalled(toolchain)) return;
    const result = tree.build(toolchain, 'clean');
    expect(result.ok).toBe(true);
    const verdict = checkPayload(
      new Uint8Array(tree.product('caretaker.elf', 'clean')),
      PROFILES['rfc-ibt'].code,
    );
    expect(verdict.findings).toEqual([]);
    expect(verdict).toMatchObject({ gates: 256, refusal: null });
    expect(verdict.stack.map(({ entry }) => entry)).toEqual(['init', 'vmexit', 'run']);
  });

  it('written by somebody else, also as an ET_EXEC', () => {
    for (const linkage of ['ET_DYN', 'ET_EXEC'] as const) {
      const { findings } = checkPayload(
        new Uint8Array(buildForeign(GCC, linkage)),
        PROFILES.rfc.code,
      );
      expect(findings).toEqual([]);
    }
  });
});

describe('a payload that', () => {
  it.each(PAYLOAD_VARIANTS)('$what breaks $rule', ({ rule, edits, profile = 'rfc' }) => {
    for (const [file, from, to] of edits) tree.plant(file, from, to);
    const result = tree.build(GCC);
    for (const [file, from, to] of edits.toReversed()) tree.plant(file, to, from);
    expect(result.stderr).toBe('');
    const { findings } = checkPayload(
      new Uint8Array(tree.product('caretaker.elf')),
      PROFILES[profile].code,
    );
    expect([...new Set(findings.map((one) => one.rule))]).toEqual([rule]);
    if (profile !== 'rfc') {
      expect(
        checkPayload(new Uint8Array(tree.product('caretaker.elf')), PROFILES.rfc.code).findings,
      ).toEqual([]);
    }
  });
});

describe('a file that', () => {
  it.each(FILE_VARIANTS)('$what breaks $rule', ({ rule, make, profile }) => {
    const original = join(folder, 'original.elf');
    execFileSync('make', ['-s', '-f', 'build.mk', 'O=plain', 'plain/caretaker.elf'], {
      cwd: join(tree.path, 'caretaker-payload'),
      stdio: 'ignore',
    });
    writeFileSync(original, tree.product('caretaker.elf', 'plain'));
    const changed = join(folder, 'changed.elf');
    make(original, changed);
    const { findings } = checkPayload(
      new Uint8Array(readFileSync(changed)),
      PROFILES[profile].code,
    );
    expect([...new Set(findings.map((one) => one.rule))]).toEqual([rule]);
  });
});

/** What only a layout lock says: two locks break it in tests/abi/lock-file.spec.ts. */
const OF_LOCKS: readonly RuleId[] = ['record-compatible'];

describe('every rule', () => {
  it('is broken by a variant', () => {
    const shown = new Set<RuleId>(OF_LOCKS);
    for (const { rule } of [...PAYLOAD_VARIANTS, ...HEADER_VARIANTS, ...FILE_VARIANTS])
      shown.add(rule);
    expect((Object.keys(RULES) as RuleId[]).filter((rule) => !shown.has(rule))).toEqual([]);
  });

  it('that is about the image stands for codes of the loader, and every code has one', () => {
    const rules = new Set(LOADER_ERROR_CODES.map(ruleOf));
    expect([...rules].sort()).toEqual([
      'ccb-header',
      'ccb-placement',
      'entry-point',
      'image-refused',
      'note-bad',
      'relocation-left',
    ]);
  });
});
