/** A layout lock as a file: every field is looked at, whatever the bytes; and two of them are compared, records too. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { diffAbi } from '../../abi/compat/diff.js';
import { currentLock } from '../../abi/lock.js';
import { LockError, readLockFile, shapeOfLock } from '../../abi/lock-file.js';
import type { LockErrorCode } from '../../abi/lock-file.js';

const TEXT = JSON.stringify(currentLock());
const folder = mkdtempSync(join(tmpdir(), 'lock-'));
afterAll(() => rmSync(folder, { recursive: true }));

const code = (text: string): LockErrorCode | null => {
  try {
    shapeOfLock(readLockFile(text));
    return null;
  } catch (error) {
    if (error instanceof LockError) return error.code;
    throw error;
  }
};

describe('a lock file', () => {
  it('is read as what was written', () => {
    expect(readLockFile(TEXT)).toEqual(currentLock());
  });

  // prettier-ignore
  it.each<[string, string, LockErrorCode]>([
    ['that is cut', TEXT.slice(0, 100), 'LOCK_JSON'],
    ['that is an array', '[]', 'LOCK_FIELD'],
    ['without structures', '{"constants":{},"records":{}}', 'LOCK_FIELD'],
    ['with a size that is text', TEXT.replace('"sizeBytes":176', '"sizeBytes":"128"'), 'LOCK_FIELD'],
    ['with a giant size', TEXT.replace('"sizeBytes":176', '"sizeBytes":1e300'), 'LOCK_FIELD'],
    ['with a field of no form', TEXT.replace('u32*1@16', 'u32 at 16'), 'LOCK_FIELD'],
    ['with a giant count', TEXT.replace('u32*1@16', 'u32*999999999999@16'), 'LOCK_FIELD'],
    ['with a type of no name', TEXT.replace('u32*1@16', 'u33*1@16'), 'LOCK_FIELD'],
    ['with a type from the prototype', TEXT.replace('u32*1@16', 'constructor*1@16'), 'LOCK_FIELD'],
    ['with a magic of more than 64 bits', TEXT.replace(/"magic":"0x/, '"magic":"0xfffffffff'), 'LOCK_FIELD'],
    ['with a constant that is a fraction', TEXT.replace('"KVM_ATTACHED":1', '"KVM_ATTACHED":1.5'), 'LOCK_FIELD'],
  ])('%s is refused', (_what, text, expected) => {
    expect(code(text)).toBe(expected);
  });

  it('with changed bytes is a lock or refused, and nothing else', () => {
    const edit = fc.tuple(fc.nat(TEXT.length - 1), fc.integer({ min: 32, max: 126 }));
    const seen = new Set<LockErrorCode | null>();
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), (edits) => {
        const bytes = Buffer.from(TEXT);
        for (const [at, byte] of edits) bytes[at] = byte;
        seen.add(code(bytes.toString()));
      }),
      { numRuns: 1000 },
    );
    expect(seen).toEqual(new Set([null, 'LOCK_JSON', 'LOCK_FIELD']));
  });
});

describe('two locks', () => {
  const shape = (edit: (text: string) => string) => shapeOfLock(readLockFile(edit(TEXT)));
  const rules = (edit: (text: string) => string): string[] =>
    diffAbi(
      shape((text) => text),
      shape(edit),
    ).map(({ rule }) => rule);

  // prettier-ignore
  it.each<[string, (text: string) => string, string[]]>([
    ['nothing changed', (text) => text, []],
    ['a record without one of its fields', (text) => text.replace('"eptp":"u64*1@48",', ''), ['field-missing', 'version-unchanged']],
    ['a record with a field in reserved bytes', (text) => text.replace('"reserved":"u64*3@232"', '"nested":"u64*3@232"'), ['field-appended', 'version-unchanged']],
    ['a record under another compatible string', (text) => text.replace(/kvm-caretaker-vm-v\d+/, 'kvm-caretaker-vm-other'), ['record-compatible']],
    ['a constant with another number', (text) => text.replace('"KVM_ATTACHED":1', '"KVM_ATTACHED":2'), ['constant-value']],
    ['a lower version of the soft state', (text) => text.replace(/("caretaker_soft_state":\{"magic":"\w+","version":)\d+/, '$10'), ['version-lowered']],
  ])('%s', (_what, edit, expected) => {
    expect(rules(edit)).toEqual(expected);
  });
});

describe('make abi-lock', () => {
  const run = (text: string): { status: number | null; stderr: string; text: string } => {
    const file = join(folder, 'layout.lock.json');
    writeFileSync(file, text);
    const { status, stderr } = spawnSync('node', ['tools/abi-lock.mjs', file], {
      encoding: 'utf8',
    });
    return { status, stderr, text: readFileSync(file, 'utf8') };
  };

  it('refuses a layout change without a version change, and leaves the lock as it is', () => {
    const old = TEXT.replace('"eptp":"u64*1@48"', '"eptp":"u64*1@40"');
    expect(run(old)).toMatchObject({ status: 1, text: old });
    expect(run(old).stderr).toContain('kvm_vm_ser');
    expect(run(TEXT.replace('u32*1@16', 'nonsense'))).toMatchObject({ status: 1 });
  });

  it('writes a lock whose versions were raised', () => {
    const older = TEXT.replace('"eptp":"u64*1@48"', '"eptp":"u64*1@40"').replace(
      /"compatible":"kvm-caretaker-vm-v\d+","magic":"0x314d56534d564b21","version":\d+/,
      '"compatible":"kvm-caretaker-vm-v0","magic":"0x314d56534d564b21","version":0',
    );
    const { status, text } = run(older);
    expect(status).toBe(0);
    expect(JSON.parse(text)).toEqual(currentLock());
  });
});
