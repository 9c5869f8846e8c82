/**
 * A deliberate error in a model shows up as a difference: each mutant switches one rule off or changes it.
 *
 * The suite tries some of every model and part. All of them, those that a spec's rows must notice included, are tried by
 *   MODEL_MUTANTS=all npx vitest run tests/conform/model-mutants
 * and with an id instead of `all`, that one.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { packageRoot } from '../../../emulator/machine/package-root.js';
import { BOCHS, HAS_BOCHS } from '../bochs-here.js';
import { changedSource, type ModelMutant } from './mutant.js';
import { MutantModels } from './mutant-models.js';
import { MODEL_MUTANTS } from './mutants.js';

/** One or two of each part whose boots are few. */
const SOME: readonly string[] = [
  'msr-list-x2apic',
  'msr-list-number',
  'nmi-through-mov-ss',
  'timer-counts-twice',
  'ept-reserved-bits',
  'ldtr-left',
  'vmx-off-is-gp',
  'vmsucceed-keeps-flags',
  'vmxon-of-any-control-registers',
  'ppr-is-a-vector',
  'xapic-broadcast',
];

const root = packageRoot();
const wanted = process.env['MODEL_MUTANTS'];
const isTried = ({ id }: ModelMutant): boolean =>
  wanted === undefined ? SOME.includes(id) : wanted === 'all' || wanted.split(',').includes(id);
const ofPart = MODEL_MUTANTS.filter(isTried).flatMap((mutant) =>
  'part' in mutant.noticed ? [{ ...mutant, part: mutant.noticed.part }] : [],
);
const ofSpec = MODEL_MUTANTS.filter(isTried).flatMap((mutant) =>
  'spec' in mutant.noticed ? [{ ...mutant, spec: mutant.noticed.spec }] : [],
);

describe('the model mutants', () => {
  it('have names of their own, and change what is there once', () => {
    expect(new Set(MODEL_MUTANTS.map(({ id }) => id)).size).toBe(MODEL_MUTANTS.length);
    for (const mutant of MODEL_MUTANTS) expect(changedSource(root, mutant)).not.toBe('');
    for (const id of SOME) expect(MODEL_MUTANTS.some((one) => one.id === id)).toBe(true);
  });
});

describe.skipIf(!HAS_BOCHS)(`an error in a model ${BOCHS}`, () => {
  const models = HAS_BOCHS ? new MutantModels() : undefined;
  afterAll(() => models?.remove());

  it.each([...new Set(ofPart.map(({ part }) => part))])('%s: none as they are', async (part) => {
    const unexplained = (await models!.unchanged(part)).filter(({ known }) => known === null);
    expect(unexplained).toEqual([]);
  });

  for (const mutant of ofPart) {
    const { id, rule, part } = mutant;
    it(`${part}: ${id} breaks "${rule}" and is noticed`, async () => {
      expect((await models!.noticed(part, mutant)).length).toBeGreaterThan(0);
    });
  }
});

describe.skipIf(ofSpec.length === 0)('an error in a model that Bochs has not', () => {
  const vitest = join('node_modules', 'vitest', 'vitest.mjs');
  const config = join('tests', 'conform', 'model-mutants', 'vitest.config.ts');

  for (const { id, rule, spec } of ofSpec) {
    it(`${spec}: ${id} breaks "${rule}" and is noticed`, () => {
      const { status, stdout } = spawnSync(
        process.execPath,
        [vitest, 'run', '--config', config, spec],
        { cwd: root, encoding: 'utf8', env: { ...process.env, MODEL_MUTANT: id } },
      );
      expect(stdout).toMatch(/, [1-9]\d* failed/);
      expect(status).toBe(1);
    });
  }
});
