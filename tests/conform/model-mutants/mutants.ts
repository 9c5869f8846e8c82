/** Every error that is tried. */
import { ENTRY_MUTANTS } from './entry-mutants.js';
import { EXIT_MUTANTS } from './exit-mutants.js';
import type { ModelMutant } from './mutant.js';
import { ROOT_MUTANTS } from './root-mutants.js';

export const MODEL_MUTANTS: readonly ModelMutant[] = [
  ...ENTRY_MUTANTS,
  ...EXIT_MUTANTS,
  ...ROOT_MUTANTS,
];
