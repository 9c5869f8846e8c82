/** The versions that `--version` prints: this program's, and that of the libunicorn that it really runs on. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../machine/package-root.js';

/** The version in package.json. */
export function programVersion(): string {
  const text = readFileSync(join(packageRoot(), 'package.json'), 'utf8');
  return (JSON.parse(text) as { readonly version: string }).version;
}

/** The version of the libunicorn that the engine binding was linked with. */
export async function unicornVersion(): Promise<string> {
  const { nativeBinding } = await import('../cpu/native-binding.js');
  return nativeBinding().version();
}
