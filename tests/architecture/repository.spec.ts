/** The tree as it is tracked, and texts that break each rule. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { hasHeader, isBinary, lockedHosts, machinePaths } from './repository.js';
import { ROOT } from './source-file.js';

const read = (path: string): Buffer => readFileSync(join(ROOT, path));
const isCheckout = existsSync(join(ROOT, '.git'));
const tracked = isCheckout ? trackedFiles() : [];
const texts = tracked.filter((path) => path !== 'package-lock.json' && path !== 'LICENSE');

describe.skipIf(!isCheckout)('the tracked tree', () => {
  it('has no binaries: they are built', () => {
    expect(tracked.filter((path) => isBinary(read(path)))).toEqual([]);
  });

  it('names no folder of one machine', () => {
    const found = texts.flatMap((path) =>
      machinePaths(read(path).toString()).map((line) => `${path}:${line}`),
    );
    expect(found).toEqual([]);
  });

  it('says at the top of each TypeScript file what it is; a spec is named by its titles', () => {
    const sources = tracked.filter((path) => /(?<!\.spec)\.ts$/.test(path));
    expect(sources.filter((path) => !hasHeader(read(path).toString()))).toEqual([]);
  });

  it('has an SPDX line first in each file that a payload is made of', () => {
    const sources = tracked.filter((path) => /^(caretaker-payload|abi).*\.([chS]|lds)$/.test(path));
    const without = sources.filter(
      (path) =>
        !read(path).toString().split('\n', 1)[0]!.includes('SPDX-License-Identifier: GPL-2.0'),
    );
    expect(without).toEqual([]);
  });

  it('has the licence that package.json names, and the permissive one beside the headers', () => {
    expect(read('LICENSE').toString()).toContain(
      'GNU GENERAL PUBLIC LICENSE\n                       Version 2',
    );
    expect(read('abi/include/caretaker/LICENSE').toString()).toContain('MIT License');
    expect(JSON.parse(read('package.json').toString())).toMatchObject({ license: 'GPL-2.0-only' });
  });

  it('locks versions and not hosts', () => {
    expect(lockedHosts(read('package-lock.json').toString())).toEqual([]);
  });

  it.each(['bin/caretaker-emu', '.ci/run', 'tools/check-node.sh', 'tools/system-packages.sh'])(
    'can execute %s',
    (path) => {
      expect(statSync(join(ROOT, path)).mode & 0o111).toBe(0o111);
    },
  );
});

describe('a breach is seen', () => {
  it.each([
    ['an ELF file', Buffer.from('\u007fELF'), true],
    ['an archive', Buffer.from('!<arch>\n'), true],
    ['a byte of zero', Buffer.from('a\0b'), true],
    ['a text', Buffer.from('ELF is a format'), false],
  ])('binary: %s', (_title, bytes, verdict) => {
    expect(isBinary(bytes)).toBe(verdict);
  });

  it.each([
    [`open('${['', 'tmp', 'x'].join('/')}')`, 1],
    [`cd ${['', 'home', 'me'].join('/')}`, 1],
    ["join(tmpdir(), 'tmp/x')", 0],
    ['build/tmp/x and $(ROOT)/work/x', 0],
  ])('a folder of one machine: %s', (text, count) => {
    expect(machinePaths(text)).toHaveLength(count);
  });

  it.each([
    ['/** What this file models, in a sentence. */\nimport x;', true],
    ['// What this file is for, in a sentence.\nimport x;', true],
    ['import x;\n/** What this file models, in a sentence. */', false],
    ['/** */\nimport x;', false],
    ['// eslint-disable\nimport x;', false],
  ])('a header: %j', (text, verdict) => {
    expect(hasHeader(text)).toBe(verdict);
  });

  it('a host in the lock', () => {
    expect(lockedHosts('{ "resolved": "https://mirror.example/x.tgz" }')).toEqual([
      'https://mirror.example/x.tgz',
    ]);
  });
});

function trackedFiles(): string[] {
  return execFileSync('git', ['ls-files', '-z'], { cwd: ROOT, encoding: 'utf8' })
    .split('\0')
    .filter((path) => path !== '' && existsSync(join(ROOT, path)));
}
