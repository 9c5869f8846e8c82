/** Files that are none, as a user hands them over: exit status 2, the file's name and the rule, never a stack. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { COMMANDS } from '../../emulator/cli/commands.js';
import { referencePayload } from '../support/reference-payload.js';
import { runWith } from './buffers.js';

const folder = mkdtempSync(join(tmpdir(), 'caretaker-hostile-'));
afterAll(() => rmSync(folder, { recursive: true }));
const payload = join(folder, 'payload.elf');
writeFileSync(payload, referencePayload());

const FILE = '{FILE}';
const brackets = '['.repeat(100_000);
const finding = (edit: object): string =>
  JSON.stringify({
    ...{ version: 1, kind: 'fuzz-input', seed: 1, input: '00' },
    payload: { file: payload, sha256: '0'.repeat(64) },
    ...edit,
  });
const policy = ['run', payload, '--ima-policy', FILE];

// prettier-ignore
const ROWS: readonly (readonly [what: string, words: readonly string[], content: string | Uint8Array, says: string])[] = [
  ['a scenario of brackets', ['run', payload, '--scenario', FILE], brackets, 'nested too deep'],
  ['a scenario of no UTF-8', ['run', payload, '--scenario', FILE], Uint8Array.of(0, 255, 254), '(document)'],
  ['a scenario with a step of no name', ['run', payload, '--scenario', FILE], 'name: a\ndescription: b\nvcpus: 1\nsteps: [{ constructor: {} }]', 'steps.0'],
  ['a finding that is cut off', ['replay', FILE], '{"version":1', 'JSON'],
  ['a finding of depth 100,000', ['replay', FILE], `{"a":${brackets}`, 'JSON'],
  ['a finding with half a byte', ['replay', FILE], finding({ input: '000' }), 'input: must be'],
  ['a finding with a seed that is none', ['replay', FILE], finding({ seed: -1 }), 'seed: '],
  ['a finding of another version', ['replay', FILE], finding({ version: 2 }), 'version: '],
  ['a lock with a fraction, checked', ['abi', 'check', FILE], '{"constants":{"a":1.5}}', 'constants.a: '],
  ['a lock with a fraction, compared', ['abi', 'diff', payload, FILE], '{"constants":{"a":1.5}}', 'constants.a: '],
  ['a lock of depth 100,000', ['abi', 'diff', FILE, payload], `{"constants":${brackets}`, 'JSON'],
  ['a policy of another hook', policy, 'measure func=MODULE_CHECK', ':1: func=CARETAKER_CHECK'],
  ['a policy of zeros', policy, new Uint8Array(4096), ':1: '],
];

describe('a file that is none', () => {
  it.each(ROWS)('%s', async (what, words, content, says) => {
    const file = join(folder, what.replaceAll(/\W/g, '-'));
    writeFileSync(file, content);
    const { status, stdout, stderr } = await runWith(
      COMMANDS,
      ...words.map((word) => (word === FILE ? file : word)),
    );
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toContain(file);
    expect(stderr).toContain(says);
    expect(stderr).not.toMatch(/^\s+at /m);
  });
});
