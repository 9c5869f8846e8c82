/** Where the C headers declare a structure or a field: what annotations point at. */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../../machine/package-root.js';

/** A line of a header, its path from the root of the repository. */
export interface HeaderLine {
  readonly file: string;
  readonly line: number;
}

const FOLDER = 'abi/include/caretaker';

/** The line of a field of a structure, of the structure itself when `field` is empty, or of an enumerator. */
export function headerLine(struct: string, field: string): HeaderLine {
  const folder = join(packageRoot(), FOLDER);
  const headers = readdirSync(folder).filter((name) => name.endsWith('.h'));
  for (const name of headers.sort()) {
    const lines = readFileSync(join(folder, name), 'utf8').split('\n');
    const start = struct === '' ? 0 : lines.indexOf(`struct ${struct} {`);
    if (start < 0) continue;
    const found = { file: `${FOLDER}/${name}`, line: start + 1 };
    if (struct !== '' && field === '') return found;
    const wanted = struct === '' ? new RegExp(`^\\s+${field}\\b`) : new RegExp(`\\b${field}\\b.*;`);
    const end =
      struct === ''
        ? lines.length
        : lines.findIndex((line, at) => at > start && line.startsWith('}'));
    const index = lines.findIndex((line, at) => at > start && at < end && wanted.test(line));
    if (index >= 0) return { ...found, line: index + 1 };
    if (struct !== '') return found;
  }
  return { file: `${FOLDER}/ccb.h`, line: 1 };
}
