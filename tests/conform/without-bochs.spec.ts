/** What is said where the second machine is missing: with a PATH that has nothing on it. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { packageRoot } from '../../emulator/machine/package-root.js';

const root = packageRoot();

function node(...words: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, words, {
    cwd: root,
    encoding: 'utf8',
    env: { ...process.env, PATH: '/nowhere', NO_COLOR: '1' },
  });
}

describe('without Bochs', () => {
  it('conform says what was not compared and what to install, and is no finding', () => {
    const { status, stdout, stderr } = node(join('bin', 'caretaker-emu'), 'conform');
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(
      /^caretaker-emu: bochs is not installed, so nothing was compared: .*checks of VM entry.*VM exits.*payload.*instructions.*apt install bochs/,
    );
  });

  it('conform --json says it with a code', () => {
    const { status, stdout } = node(join('bin', 'caretaker-emu'), 'conform', '--json');
    expect(status).toBe(2);
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'BOCHS_MISSING' } });
  });

  it('a run of the tests names each suite that it could not hold', () => {
    const vitest = join('node_modules', 'vitest', 'vitest.mjs');
    const { status, stdout } = node(vitest, 'run', join('tests', 'conform', 'entry-rows'));
    expect(status).toBe(0);
    expect(stdout).toMatch(/not run: checks of VM entry \(skipped: bochs is not installed\)\n/);
    expect(stdout).toMatch(/, 0 failed, \d+ skipped\n$/);
  });
});
