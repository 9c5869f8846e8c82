/**
 * The text of source files, where a file that debug information names can be found on this machine.
 *
 * Source: DW_AT_comp_dir may name a folder of another machine, or none: names are looked for below folders that the
 * caller knows, whole and by their last part.
 * Invariant: a file is read once; what is not found is null, and a view says "source not found".
 */
import { readFileSync } from 'node:fs';
import { dirname, isAbsolute, join, posix } from 'node:path';

/** Reads a file as text; null when it cannot. */
export type ReadText = (path: string) => string | null;

/** Reads from the disk. */
export const diskText: ReadText = (path) => {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
};

/** Source files by the names of debug information. */
export class SourceText {
  readonly #folders: readonly string[];
  readonly #read: ReadText;
  readonly #files = new Map<string, { readonly path: string; readonly lines: string[] } | null>();

  /** Files are looked for below `folders`, in that order. */
  constructor(folders: readonly string[], read: ReadText = diskText) {
    this.#folders = folders;
    this.#read = read;
  }

  /** The lines of a file; null when it is nowhere. */
  lines(file: string): readonly string[] | null {
    return this.#open(file)?.lines ?? null;
  }

  /** Where a file was found, as an absolute path; null when it is nowhere. */
  path(file: string): string | null {
    return this.#open(file)?.path ?? null;
  }

  #open(file: string): { readonly path: string; readonly lines: string[] } | null {
    let found = this.#files.get(file);
    if (found === undefined) {
      found = this.#search(file);
      this.#files.set(file, found);
    }
    return found;
  }

  #search(file: string): { readonly path: string; readonly lines: string[] } | null {
    const name = posix.normalize(file);
    const below = isAbsolute(name) ? [] : this.#folders.map((folder) => join(folder, name));
    const byName = this.#folders.map((folder) => join(folder, posix.basename(name)));
    for (const path of [...(isAbsolute(name) ? [name] : below), ...byName]) {
      const text = this.#read(path);
      if (text !== null) return { path, lines: text.replace(/\n$/, '').split('\n') };
    }
    return null;
  }
}

/** Folders in which the sources of a payload may lie: around its file, and `caretaker-payload` below `root`. */
export function sourceFolders(payloadFile: string | null, root: string): readonly string[] {
  const beside = payloadFile === null ? [] : [dirname(payloadFile), dirname(dirname(payloadFile))];
  const tree = join(root, 'caretaker-payload');
  const headers = join(root, 'abi', 'include', 'caretaker');
  return [...beside, ...beside.map((one) => join(one, 'caretaker-payload')), tree, headers];
}
