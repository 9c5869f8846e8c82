// Forks, not threads: a crash in the native engine must end one file's run and not the whole suite.
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['tests/**/*.spec.ts'],
    setupFiles: ['./tests/support/property-seed.ts'],
    pool: 'forks',
    maxWorkers: 2,
    // Against hangs, on a machine however busy: no test is judged by its time.
    testTimeout: 240_000,
    hookTimeout: 240_000,
    reporters: ['default', './tests/support/totals-reporter.ts'],
  },
});
