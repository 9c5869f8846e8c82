/**
 * Prints the run's totals as one plain line, `N passed, N failed[, N skipped]`, the last that a run prints, behind the
 * suites of which nothing ran.
 *
 * Invariant: a run that vitest calls failed never shows `0 failed`; a file that cannot be imported, a suite whose
 * hook throws and an unhandled error count as one failure each.
 */
import type { Reporter, TestModule, TestRunEndReason, SerializedError } from 'vitest/node';

/** The counts behind the line. */
export interface Totals {
  passed: number;
  failed: number;
  skipped: number;
}

const RESULT = {
  passed: 'passed',
  failed: 'failed',
  skipped: 'skipped',
  pending: 'skipped',
} as const;

/** Adds up a run. */
export function totalsOf(modules: readonly TestModule[], unhandledErrors: number): Totals {
  const totals: Totals = { passed: 0, failed: unhandledErrors, skipped: 0 };
  for (const module of modules) {
    totals.failed += module.errors().length > 0 ? 1 : 0;
    for (const suite of module.children.allSuites()) {
      totals.failed += suite.errors().length > 0 ? 1 : 0;
    }
    for (const test of module.children.allTests()) totals[RESULT[test.result().state]]++;
  }
  return totals;
}

/** The line itself; nothing is said of skipped tests when there are none. */
export function totalsLine({ passed, failed, skipped }: Totals): string {
  const line = `${passed} passed, ${failed} failed`;
  return skipped > 0 ? `${line}, ${skipped} skipped` : line;
}

/** The outermost suites none of whose tests ran: what this machine could not hold. */
export function skippedSuites(modules: readonly TestModule[]): string[] {
  return modules.flatMap(({ children }) =>
    [...children.suites()]
      .filter((suite) => {
        const states = [...suite.children.allTests()].map((test) => test.result().state);
        return states.length > 0 && states.every((state) => state === 'skipped');
      })
      .map(({ name }) => name),
  );
}

/** The vitest reporter; it stands after `default` in vitest.config.ts. */
export default class TotalsReporter implements Reporter {
  onTestRunEnd(
    modules: readonly TestModule[],
    unhandledErrors: readonly SerializedError[],
    reason: TestRunEndReason,
  ): void {
    const totals = totalsOf(modules, unhandledErrors.length);
    if (reason === 'failed' && totals.failed === 0) totals.failed = 1;
    const skipped = skippedSuites(modules).map((name) => `not run: ${name}\n`);
    process.stdout.write(`\n${skipped.join('')}${totalsLine(totals)}\n`);
  }
}
