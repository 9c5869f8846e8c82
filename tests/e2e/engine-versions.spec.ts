/** A user who sets the engine library, 2.0.1 or 2.1.x, gets the same results to the last tick. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

const root = new URL('../..', import.meta.url).pathname;
const older = join(root, '.unicorn', 'engine-2.0', 'build', 'Release', 'caretaker_engine.node');
const isBuilt = existsSync(older);

const run = (scenario: string, engine?: string): unknown => {
  const environment =
    engine === undefined ? process.env : { ...process.env, CARETAKER_ENGINE: engine };
  const args = [join(root, 'bin', 'caretaker-emu'), 'run', '--scenario', scenario, '--json'];
  return JSON.parse(execFileSync(process.execPath, args, { env: environment, encoding: 'utf8' }));
};

describe.skipIf(!isBuilt)(
  `two versions of the engine${isBuilt ? '' : ' (skipped: the 2.0 addon is not built)'}`,
  () => {
    it.each(['attached', 'blocked-early', 'attach-lifecycle'])(
      '%s gives the same document, every tick of the timeline included',
      (scenario) => {
        const document = run(scenario) as { result: string };
        expect(document.result).toBe('pass');
        expect(run(scenario, older)).toEqual(document);
      },
      120_000,
    );
  },
);
