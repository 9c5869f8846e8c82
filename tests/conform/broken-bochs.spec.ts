/** What is said of a Bochs that is there and does not work: programs of its name on a PATH of their own. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { packageRoot } from '../../emulator/machine/package-root.js';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'broken-bochs-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

/** Runs `conform` with a Bochs that is this script. */
function conform(script: string): { status: number | null; message: string; code: string } {
  const file = join(folder, 'bochs-bin');
  writeFileSync(file, `#!/bin/sh\n${script}\n`);
  chmodSync(file, 0o755);
  const run = spawnSync(process.execPath, [join('bin', 'caretaker-emu'), 'conform', '--json'], {
    cwd: packageRoot(),
    encoding: 'utf8',
    env: { ...process.env, PATH: `${folder}:${process.env['PATH'] ?? ''}`, NO_COLOR: '1' },
  });
  const { error } = JSON.parse(run.stdout) as { error: { code: string; message: string } };
  return { status: run.status, ...error };
}

const SAYS_ITS_NAME = 'case "$1" in --help) echo "Usage: bochs [flags]: Bochs"; exit 0;; esac';

describe('a Bochs that does not work', () => {
  // prettier-ignore
  it.each([
    ['cannot start', 'echo "bochs: cannot open libltdl.so.7" >&2; exit 127', 'bochs-bin --help ended with status 127 and said: bochs: cannot open libltdl.so.7'],
    ['says something else', 'echo hello', 'bochs-bin --help ended with status 0 and said: hello'],
    ['ends at once', `${SAYS_ITS_NAME}; echo "no display library" >&2; exit 3`, 'bochs-bin ended with status 3 and said: no display library'],
    ['crashes', `${SAYS_ITS_NAME}; kill -SEGV $$`, 'bochs-bin ended with signal SIGSEGV and said nothing'],
  ])('is no missing one when it %s: its end and its last words are told', (_how, script, told) => {
    const { status, code, message } = conform(script);
    expect([status, code]).toEqual([2, 'BOCHS_BROKEN']);
    expect(message).toBe(`bochs is installed and does not work, so nothing was compared: ${told}`);
  });
});
