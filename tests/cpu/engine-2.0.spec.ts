/** The engine's own suites once more, on the build against libunicorn 2.0 where `npm run build:engine-2.0` made one. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

const built = join(
  import.meta.dirname,
  '../../.unicorn/engine-2.0/build/Release/caretaker_engine.node',
);

if (existsSync(built)) {
  // Before the first use: the binding is loaded once a process, and each file of tests is a process.
  process.env['CARETAKER_ENGINE'] = built;
  const { engineVersion } = await import('../../emulator/cpu/engine.js');
  const suites = await import('./suites/index.js');
  describe('on libunicorn 2.0', () => {
    it('is the version that runs', () => {
      expect(engineVersion()).toMatch(/^2\.0\./);
    });
    for (const suite of suites.all) suite();
  });
} else {
  it.skip('on libunicorn 2.0: not built here (npm run build:engine-2.0 needs libunicorn-dev)', () =>
    undefined);
}
