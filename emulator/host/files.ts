/**
 * struct file: open files, who holds each of them, and what happens when nobody does any more.
 *
 * Source: Linux fs/file_table.c: get_file(), fput(); fs/ioctl.c.
 * Invariant: a file lives exactly as long as it has a holder; its operations' release runs once, at the last put.
 * Not modelled: paths, offsets, O_CLOEXEC, passing of descriptors between processes.
 */
import { HarnessBug } from '../../abi/errors.js';
import type { Process } from './process.js';
import { refuse, type Result } from './result.js';

/** Who keeps a file alive. */
export type FileHolder =
  | { readonly kind: 'process'; readonly pid: number; readonly fd: number }
  | { readonly kind: 'luo'; readonly session: string }
  | { readonly kind: 'kernel'; readonly what: string };

/** An open file. `inode` is what two openings of one thing share, and what its operations look it up by. */
export interface OpenFile {
  readonly id: number;
  readonly kind: string;
  readonly inode: number;
  /** What /proc shows. */
  readonly name: string;
}

/** struct file_operations: what one kind of file does. */
export interface FileOperations {
  /** The last holder let go. */
  release?(file: OpenFile): void;
  /** `argument` is the user's structure, null for a pointer that faults. Errnos are the call's own. */
  ioctl?(
    file: OpenFile,
    caller: Process,
    command: number,
    argument: Uint8Array | null,
  ): Result<number>;
}

interface FileEntry extends OpenFile {
  readonly holders: FileHolder[];
}

/** All open files as plain data. */
export interface FileTableState {
  readonly nextId: number;
  readonly nextInode: number;
  readonly files: readonly (OpenFile & { readonly holders: readonly FileHolder[] })[];
}

export class FileTable {
  #nextId = 1;
  #nextInode = 1;
  readonly #files = new Map<number, FileEntry>();
  readonly #operations = new Map<string, FileOperations>();

  /** Says what files of `kind` do. @throws HarnessBug for a kind that is there already. */
  register(kind: string, operations: FileOperations): void {
    if (this.#operations.has(kind)) throw new HarnessBug(`file kind ${kind} registered twice`);
    this.#operations.set(kind, operations);
  }

  /** A number for something that files can be opened on. */
  newInode(): number {
    return this.#nextInode++;
  }

  /** Opens a file with its first holder. */
  open(kind: string, inode: number, name: string, holder: FileHolder): OpenFile {
    if (!this.#operations.has(kind)) throw new HarnessBug(`no operations for file kind ${kind}`);
    const file: FileEntry = { id: this.#nextId++, kind, inode, name, holders: [holder] };
    this.#files.set(file.id, file);
    return describe(file);
  }

  /** Takes one more reference: get_file(). */
  get(file: OpenFile, holder: FileHolder): void {
    this.#entry(file.id).holders.push(holder);
  }

  /** Drops the reference of `holder`: fput(). The last one releases the file. */
  put(file: OpenFile, holder: FileHolder): void {
    const entry = this.#entry(file.id);
    const at = entry.holders.findIndex((other) => sameHolder(other, holder));
    if (at < 0) throw new HarnessBug(`${file.name}: put by one who does not hold it`);
    entry.holders.splice(at, 1);
    if (entry.holders.length > 0) return;
    this.#files.delete(file.id);
    this.#operations.get(entry.kind)?.release?.(describe(entry));
  }

  /** The file with that id, undefined once released. */
  find(id: number): OpenFile | undefined {
    const entry = this.#files.get(id);
    return entry === undefined ? undefined : describe(entry);
  }

  /** Who holds a file now; nobody once it is released. */
  holders(id: number): readonly FileHolder[] {
    return [...(this.#files.get(id)?.holders ?? [])];
  }

  /** Errnos: ENOTTY for a kind without ioctls, otherwise those of the kind. */
  ioctl(
    file: OpenFile,
    caller: Process,
    command: number,
    argument: Uint8Array | null,
  ): Result<number> {
    const operations = this.#operations.get(file.kind);
    return operations?.ioctl?.(file, caller, command, argument) ?? refuse('ENOTTY');
  }

  state(): FileTableState {
    return structuredClone({
      nextId: this.#nextId,
      nextInode: this.#nextInode,
      files: [...this.#files.values()],
    });
  }

  /** Goes back to where `state` was taken; no release runs. */
  restore(state: FileTableState): void {
    this.#nextId = state.nextId;
    this.#nextInode = state.nextInode;
    this.#files.clear();
    for (const file of state.files) {
      this.#files.set(file.id, { ...file, holders: [...file.holders] });
    }
  }

  #entry(id: number): FileEntry {
    const entry = this.#files.get(id);
    if (entry === undefined) throw new HarnessBug(`file ${id} is released`);
    return entry;
  }
}

function describe({ id, kind, inode, name }: FileEntry): OpenFile {
  return { id, kind, inode, name };
}

function sameHolder(a: FileHolder, b: FileHolder): boolean {
  switch (a.kind) {
    case 'process':
      return b.kind === 'process' && a.pid === b.pid && a.fd === b.fd;
    case 'luo':
      return b.kind === 'luo' && a.session === b.session;
    case 'kernel':
      return b.kind === 'kernel' && a.what === b.what;
  }
}
