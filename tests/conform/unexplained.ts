/** The differences that nothing explains, as lines. */
import type { CaseResult } from '../../emulator/conform/case-result.js';

export const unexplained = (results: readonly CaseResult[]): string[] =>
  results.flatMap(({ title, differences }) =>
    differences
      .filter(({ known }) => known === null)
      .map(({ what, model, second }) => `${title}: ${what}: model ${model}, Bochs ${second}`),
  );
