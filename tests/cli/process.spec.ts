/** The program as a process: bin/caretaker-emu on what `make build` compiled. */
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  cpSync,
  existsSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const bin = join(root, 'bin/caretaker-emu');

function run(...words: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [bin, ...words], { encoding: 'utf8' });
}

beforeAll(() => {
  if (!existsSync(join(root, 'dist/emulator/cli/main.js')))
    throw new Error('run `make build` first');
});

describe('bin/caretaker-emu', () => {
  it('prints its version and that of the engine', () => {
    const { status, stdout } = run('--version');
    expect(stdout).toMatch(/^caretaker-emu \d+\.\d+\.\d+ \(unicorn \d+\.\d+\.\d+\)\n$/);
    expect(status).toBe(0);
  });

  it('prints both versions as JSON', () => {
    const { version, unicorn } = JSON.parse(run('--version', '--json').stdout) as Record<
      string,
      string
    >;
    expect(run('--version').stdout).toBe(`caretaker-emu ${version!} (unicorn ${unicorn!})\n`);
  });

  it('turns the status of the program into that of the process', () => {
    expect(run('--help').status).toBe(0);
    expect(run('no-such-command').status).toBe(2);
  });

  it('writes no escape sequence into a pipe', () => {
    const { stdout, stderr } = run('--help');
    expect(stdout + stderr + run('no-such-command').stderr).not.toContain('\u001b');
  });

  it('ends silently when its reader has gone', () => {
    const { stdout, stderr } = spawnSync(
      'bash',
      ['-c', '"$0" "$1" --help | true; echo "${PIPESTATUS[0]}"', process.execPath, bin],
      { encoding: 'utf8' },
    );
    expect({ stdout, stderr }).toEqual({ stdout: '0\n', stderr: '' });
  });

  it.skipIf(!existsSync('/dev/full')).each([[[] as string[]], [['--json']]])(
    'says on stderr that stdout cannot be written, with %j',
    (options) => {
      const full = openSync('/dev/full', 'w');
      const { status, stderr } = spawnSync(process.execPath, [bin, '--version', ...options], {
        encoding: 'utf8',
        stdio: ['ignore', full, 'pipe'],
      });
      closeSync(full);
      expect(status).toBe(2);
      expect(stderr).toContain('stdout: cannot be written: ENOSPC');
    },
  );

  it('says what to do when it is not built', () => {
    const elsewhere = mkdtempSync(join(tmpdir(), 'caretaker-'));
    try {
      cpSync(bin, join(elsewhere, 'bin/caretaker-emu'), { recursive: true });
      writeFileSync(join(elsewhere, 'package.json'), '{ "type": "module" }');
      const { status, stderr } = spawnSync(
        process.execPath,
        [join(elsewhere, 'bin/caretaker-emu')],
        {
          encoding: 'utf8',
        },
      );
      expect(stderr).toContain('make build');
      expect(status).toBe(2);
    } finally {
      rmSync(elsewhere, { recursive: true });
    }
  });
});
