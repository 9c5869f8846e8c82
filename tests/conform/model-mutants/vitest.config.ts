/** Runs specs with the error of one model mutant in the sources: MODEL_MUTANT names it. */
import { join } from 'node:path';
import { defineConfig, mergeConfig } from 'vitest/config';
import suite from '../../../vitest.config.js';
import { changedSource } from './mutant.js';
import { MODEL_MUTANTS } from './mutants.js';

const root = join(import.meta.dirname, '..', '..', '..');
const mutant = MODEL_MUTANTS.find(({ id }) => id === process.env['MODEL_MUTANT']);
if (mutant === undefined) throw new Error('MODEL_MUTANT names no mutant');
const path = join(root, mutant.file);
const changed = changedSource(root, mutant);

export default mergeConfig(
  suite,
  defineConfig({
    root,
    plugins: [{ name: 'mutant', enforce: 'pre', load: (id) => (id === path ? changed : null) }],
  }),
);
