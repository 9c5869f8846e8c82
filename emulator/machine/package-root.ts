/** Where this package is installed: the folder of package.json, from sources and from dist/ alike. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { HarnessBug } from '../../abi/errors.js';

/** The package's own folder; built-in scenarios, the reference payload and the engine are found from here. */
export function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) {
    const parent = dirname(folder);
    if (parent === folder) throw new HarnessBug('no package.json above this file');
    folder = parent;
  }
  return folder;
}
