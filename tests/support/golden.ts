/**
 * Golden transcripts: text files under tests/golden/ that a run must reproduce.
 *
 * Invariant: a missing or different transcript fails, and leaves what was printed beside it as `.actual`; only
 * `make golden` (UPDATE_GOLDEN=1) writes a transcript, and the diff is reviewed.
 */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';

/** Compares `actual` with tests/golden/`name`. */
export function expectGolden(name: string, actual: string): void {
  const file = fileURLToPath(new URL(`../golden/${name}`, import.meta.url));
  const rejected = `${file}.actual`;
  const isAccepting = process.env['UPDATE_GOLDEN'] === '1';
  const golden = existsSync(file) ? readFileSync(file, 'utf8') : null;
  if (golden === actual || isAccepting) {
    if (golden !== actual) writeText(file, actual);
    rmSync(rejected, { force: true });
    return;
  }
  writeText(rejected, actual);
  expect(actual, `tests/golden/${name} differs; accept with: make golden`).toBe(golden ?? '');
}

function writeText(file: string, text: string): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
}
