/** The line that people and CI read, from real runs of vitest that fail in each way a run can. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const vitest = fileURLToPath(new URL('../../node_modules/vitest/vitest.mjs', import.meta.url));
const root = fileURLToPath(new URL('fixtures/totals', import.meta.url));

function run(...files: string[]): { status: number | null; lastLine: string | undefined } {
  const child = spawnSync(process.execPath, [vitest, 'run', '--root', root, ...files], {
    encoding: 'utf8',
    env: { ...process.env, NO_COLOR: '1' },
  });
  return { status: child.status, lastLine: child.stdout.trimEnd().split('\n').at(-1) };
}

describe('the totals line', () => {
  it.each([
    ['counts passed and skipped tests', ['passes'], 0, '1 passed, 0 failed, 1 skipped'],
    ['counts a file that cannot be imported', ['import-fails'], 1, '0 passed, 1 failed'],
    ['counts a suite whose hook throws', ['hook-fails'], 1, '0 passed, 1 failed, 1 skipped'],
    ['counts an unhandled rejection', ['unhandled'], 1, '1 passed, 1 failed'],
    ['adds up files', ['passes', 'import-fails'], 1, '1 passed, 1 failed, 1 skipped'],
  ])('%s and is the last line', (_title, files, status, lastLine) => {
    expect(run(...files)).toEqual({ status, lastLine });
  });
});
