/** The versions that `--version` prints: this program's, and the one of the libunicorn that it really runs on. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { HarnessBug } from '../../abi/errors.js';

/** The version in package.json, which lies above this file both in the sources and in dist/. */
export function programVersion(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (folder !== dirname(folder)) {
    folder = dirname(folder);
    const version = versionIn(join(folder, 'package.json'));
    if (version !== null) return version;
  }
  throw new HarnessBug('no package.json above the program');
}

function versionIn(file: string): string | null {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    return null;
  }
  const { name, version } = JSON.parse(text) as { name?: string; version?: string };
  return name === 'caretaker-emu' ? (version ?? null) : null;
}

/** The version of the libunicorn that the engine binding was linked with. */
export function unicornVersion(): Promise<string> {
  return Promise.resolve('not built');
}
