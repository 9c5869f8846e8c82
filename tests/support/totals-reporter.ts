import type { Reporter, TestModule } from 'vitest/node';

/** Prints the run's totals as one plain line, `N passed, N failed, N skipped`, for people who grep. */
export default class TotalsReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const count = { passed: 0, failed: 0, skipped: 0 };
    for (const module of modules) {
      for (const test of module.children.allTests()) {
        const state = test.result().state;
        count[state === 'pending' ? 'skipped' : state]++;
      }
      if (module.errors().length > 0) count.failed++;
    }
    process.stdout.write(
      `\n${String(count.passed)} passed, ${String(count.failed)} failed, ${String(count.skipped)} skipped\n`,
    );
  }
}
