/**
 * Lines typed in earlier sessions: one file under the user's state folder.
 *
 * Source: XDG Base Directory Specification ("XDG_STATE_HOME").
 * Invariant: a history that cannot be read or written is none, and never in the way.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

const KEPT_LINES = 1000;

/** Where the history of `debug` is kept. */
export function historyFile(environment: Readonly<Record<string, string | undefined>>): string {
  const wish = environment['XDG_STATE_HOME'] ?? '';
  const state = wish.startsWith('/') ? wish : join(homedir(), '.local', 'state');
  return join(state, 'caretaker-emu', 'debug-history');
}

/** The newest line first, as readline wants them. */
export function readHistory(file: string): string[] {
  try {
    const lines = readFileSync(file, 'utf8').split('\n');
    return lines.filter((line) => line !== '').reverse();
  } catch {
    return [];
  }
}

/** Keeps the newest lines; `history` has the newest first. */
export function writeHistory(file: string, history: readonly string[]): void {
  try {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    const kept = history.slice(0, KEPT_LINES).reverse();
    writeFileSync(file, kept.map((line) => `${line}\n`).join(''), { mode: 0o600 });
  } catch {
    // A state folder that cannot be written costs the history and nothing else.
  }
}
