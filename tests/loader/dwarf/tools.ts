/** Which of the tools that serve as second readers are here. */
import { spawnSync } from 'node:child_process';

/** Whether a program starts. */
export function isHere(program: string): boolean {
  return spawnSync(program, ['--version'], { stdio: 'ignore' }).error === undefined;
}

/** A title that says why a test was skipped. */
export function titled(title: string, ...programs: readonly string[]): string {
  const missing = programs.filter((program) => !isHere(program));
  return missing.length === 0 ? title : `${title} (skipped: no ${missing.join(', ')})`;
}
