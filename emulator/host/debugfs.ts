/**
 * debugfs: a tree of named files whose text is made when it is read.
 *
 * Source: Linux Documentation/filesystems/debugfs.rst; RFC, "Gap Observability and Telemetry" (debugfs kvm/).
 * Invariant: reading has no side effect, so the same tree reads the same twice.
 * Not modelled: writable files, permissions.
 */
import { DONE, ok, refuse, type Result } from './result.js';

/** What a file's callback gives. */
export type DebugValue = string | number | bigint;

/** The tree with every file read: bigints stay bigints, so that nothing is lost to rounding. */
export interface DebugTree {
  readonly [name: string]: DebugValue | DebugTree;
}

export class DebugFs {
  readonly #files = new Map<string, () => DebugValue>();

  /** Adds a file at `path`, as `kvm/12-3/vcpu0/caretaker_telemetry`. Errnos: EEXIST; EINVAL a file where a folder is. */
  add(path: string, read: () => DebugValue): Result<void> {
    if (this.#files.has(path)) return refuse('EEXIST');
    for (const other of this.#files.keys()) {
      if (other.startsWith(`${path}/`) || path.startsWith(`${other}/`)) return refuse('EINVAL');
    }
    this.#files.set(path, read);
    return DONE;
  }

  /** Removes a file, or a folder with all that is in it. */
  remove(path: string): void {
    for (const other of [...this.#files.keys()]) {
      if (other === path || other.startsWith(`${path}/`)) this.#files.delete(other);
    }
  }

  /** The text of a file. Errnos: ENOENT; EISDIR. */
  read(path: string): Result<string> {
    const file = this.#files.get(path);
    if (file !== undefined) return ok(String(file()));
    return refuse(this.list(path).length > 0 ? 'EISDIR' : 'ENOENT');
  }

  /** Names in a folder, sorted; the root is the empty path. */
  list(path = ''): readonly string[] {
    const prefix = path === '' ? '' : `${path}/`;
    const below = [...this.#files.keys()].filter((file) => file.startsWith(prefix));
    const names = below.map((file) => file.slice(prefix.length).split('/', 1)[0] ?? '');
    return [...new Set(names)].sort();
  }

  /** Everything below a folder, read now. */
  tree(path = ''): DebugTree {
    const prefix = path === '' ? '' : `${path}/`;
    return Object.fromEntries(
      this.list(path).map((name) => {
        const read = this.#files.get(`${prefix}${name}`);
        return [name, read === undefined ? this.tree(`${prefix}${name}`) : read()] as const;
      }),
    );
  }
}
