/** Rules of layouts, constants and versions: each is broken by a variant of the contract's header that gcc compiles. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { checkAbi } from '../../abi/compat/check.js';
import { diffAbi } from '../../abi/compat/diff.js';
import { RULES } from '../../abi/compat/rules.js';
import type { Finding } from '../../abi/compat/rules.js';
import type { AbiShape } from '../../abi/compat/shape.js';
import { abiOf } from '../../emulator/cli/abi-file.js';
import { HEADER_VARIANTS } from './header-variants.js';
import type { HeaderVariant } from './header-variants.js';

const INCLUDE = new URL('../../abi/include', import.meta.url).pathname;
const HEADER = readFileSync(join(INCLUDE, 'caretaker/ccb.h'), 'utf8');
const PLAIN: HeaderVariant = {
  rule: 'struct-unused',
  command: 'check',
  what: '',
  from: '',
  to: '',
};

const folder = mkdtempSync(join(tmpdir(), 'headers-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** A control block as a payload defines it, under the changed header. */
function source(header: string): string {
  const block = /struct (\w+) \{\n\t\/\* Image/.exec(header)![1]!;
  const text = header.replace(/^CARETAKER_ABI_\w+\(.*\);$/gm, '');
  return `${text}
struct ${block} ccb __attribute__((section(".ccb"))) = {
  .header = { CARETAKER_CCB_MAGIC, CARETAKER_CCB_VERSION, CARETAKER_CCB_SIZE } };
enum caretaker_attach_state attach_state;
`;
}

function compile({ from, to, object }: HeaderVariant): Uint8Array {
  expect(HEADER).toContain(from);
  const file = join(folder, 'ccb.o');
  const gcc = (text: string, output: string): void => {
    execFileSync('gcc', ['-g', `-I${INCLUDE}`, '-x', 'c', '-c', '-', '-o', output], {
      input: text,
    });
  };
  gcc(source(HEADER.replace(from, () => to)), file);
  if (object === 'stripped') execFileSync('strip', ['--strip-debug', file]);
  if (object === 'cut') {
    const half = join(folder, 'half');
    execFileSync('objcopy', [
      '-O',
      'binary',
      '--only-section=.debug_info',
      '--set-section-flags',
      '.debug_info=alloc',
      file,
      half,
    ]);
    writeFileSync(half, readFileSync(half).subarray(0, 40));
    execFileSync('objcopy', [
      '--remove-relocations=.debug_info',
      `--update-section=.debug_info=${half}`,
      file,
    ]);
  }
  if (object === 'twice') {
    const other = join(folder, 'other.o');
    gcc(
      source(HEADER.replace('u64 epoch;', 'u64 era;'))
        .replace(' ccb ', ' second ')
        .replace('attach_state attach_state', 'attach_state other'),
      other,
    );
    execFileSync('ld', ['-r', file, other, '-o', `${file}.both`]);
    return new Uint8Array(readFileSync(`${file}.both`));
  }
  return new Uint8Array(readFileSync(file));
}

function findingsOf(variant: HeaderVariant): readonly Finding[] {
  const now = abiOf(compile(variant));
  if (!('structs' in now)) return [now];
  if (variant.command === 'check') return checkAbi(now, 'rfc');
  return diffAbi(abiOf(compile(PLAIN)) as AbiShape, now);
}

describe('a header with', () => {
  it.each(HEADER_VARIANTS)('$what breaks $rule', (variant) => {
    const rules = findingsOf(variant).map(({ rule }) => rule);
    expect(rules).toContain(variant.rule);
    if (RULES[variant.rule].severity !== 'error') {
      expect(rules.filter((rule) => RULES[rule].severity === 'error')).toEqual([]);
    }
  });

  it('nothing changed has nothing but structures that it does not use', () => {
    expect(new Set(findingsOf(PLAIN).map(({ rule }) => rule))).toEqual(new Set(['struct-unused']));
  });
});
