/**
 * The files of one session, from preservation to the end.
 *
 * Happy path:
 * 1. preserve: while the workload runs, a file gets a token; LUO becomes a holder of it and its handler saves it.
 * 2. freeze: in the reboot call, in order of preservation; then the records are written into preserved blocks.
 * 3. deserialize: in the next kernel, when /dev/liveupdate is first opened; no handler runs yet.
 * 4. retrieve: by token, in any order; again gives one more descriptor of the same file.
 * 5. finish: every file may refuse; then all are finished in reverse order and LUO lets go of them.
 *
 * Unhappy paths:
 * 1. Cancelled before reboot: closing the session unpreserves its files in reverse order.
 * 2. A freeze fails: the files frozen before it are unfrozen in the same order, and the reboot call returns the errno.
 * 3. A retrieve fails: the errno is remembered and told at every further attempt.
 * 4. A file cannot finish yet: nothing is finished, and LUO keeps all files of the session.
 * 5. A file was never retrieved: finish still runs, and its handler frees what it preserved.
 *
 * Source: Linux kernel/liveupdate/luo_file.c.
 * Invariant: while a file is preserved or retrieved, LUO holds it and no session can preserve it a second time.
 */
import { HarnessBug } from '../../../abi/errors.js';
import { u64 } from '../../../abi/uint.js';
import type { PhysicalBytes } from '../../memory/physical-memory.js';
import type { HostEvents, LuoStep } from '../events.js';
import type { FileHolder, FileTable, OpenFile } from '../files.js';
import { BlockSet, readBlocks } from '../kho/block-set.js';
import type { KhoIn } from '../kho/kho-in.js';
import type { KhoOut } from '../kho/kho-out.js';
import { DONE, ok, refuse, type Result } from '../result.js';
import type { FlbRegistry } from './flb.js';
import type { FileOpArgs, LiveupdateFileHandler, RetrieveStatus } from './handler.js';
import { decodeFile, encodeFile, FILE_SER_BYTES, type SessionSer } from './luo-abi.js';

/** What all file sets of a kernel share. */
export interface LuoContext {
  readonly memory: PhysicalBytes;
  readonly khoOut: KhoOut;
  readonly khoIn: KhoIn;
  readonly files: FileTable;
  readonly events: HostEvents;
  readonly flbs: FlbRegistry;
  readonly handlers: Map<string, LiveupdateFileHandler>;
  /** luo_preserved_files: the ids of all files that some session preserves or has retrieved. */
  readonly preservedIds: Set<string>;
}

/** struct luo_file. */
export interface LuoFile {
  readonly token: bigint;
  readonly compatible: string;
  file: number | null;
  data: bigint;
  status: RetrieveStatus;
}

/** A file set as plain data. */
export interface FileSetState {
  readonly files: readonly LuoFile[];
  readonly blocks: readonly bigint[];
}

export class FileSet {
  readonly #luo: LuoContext;
  readonly #session: string;
  readonly #blocks: BlockSet;
  #files: LuoFile[];

  constructor(luo: LuoContext, session: string, state: FileSetState = { files: [], blocks: [] }) {
    this.#luo = luo;
    this.#session = session;
    this.#files = structuredClone([...state.files]);
    this.#blocks = new BlockSet(
      luo.memory,
      luo.khoOut,
      FILE_SER_BYTES,
      `LUO files of ${session}`,
      state.blocks,
    );
  }

  /** The files in order of preservation. */
  get files(): readonly LuoFile[] {
    return this.#files;
  }

  /**
   * luo_preserve_file(). `file` is what the descriptor names.
   *
   * Errnos: EEXIST token in use; EBADF no such descriptor; ENOMEM; ENOENT no handler takes the file; EBUSY a session
   * has the same file; those of FLBs and of the handler's preserve().
   */
  preserve(token: bigint, file: OpenFile | undefined): Result<void> {
    if (this.#files.some((other) => other.token === token)) return refuse('EEXIST');
    if (file === undefined) return refuse('EBADF');
    const undo: (() => void)[] = [];
    const fail = <T extends Result<unknown>>(result: T): T => {
      for (const step of undo.reverse()) step();
      return result;
    };
    const room = this.#blocks.grow(this.#files.length + 1);
    if (!room.ok) return room;
    undo.push(() => this.#blocks.shrink(this.#files.length));
    const handler = [...this.#luo.handlers.values()].find((one) => one.canPreserve(file));
    if (handler === undefined) return fail(refuse('ENOENT'));
    const id = idOf(handler, file);
    if (this.#luo.preservedIds.has(id)) return fail(refuse('EBUSY'));
    this.#luo.preservedIds.add(id);
    undo.push(() => this.#luo.preservedIds.delete(id));
    const flbs = this.#luo.flbs.filePreserve(handler.compatible);
    if (!flbs.ok) return fail(flbs);
    undo.push(() => this.#luo.flbs.fileUnpreserve(handler.compatible));
    const entry: LuoFile = {
      token,
      compatible: handler.compatible,
      file: file.id,
      data: 0n,
      status: { kind: 'untried' },
    };
    this.#luo.files.get(file, this.#holder);
    undo.push(() => this.#luo.files.put(file, this.#holder));
    const data = handler.preserve({ ...this.#args(entry), file });
    if (!data.ok) return fail(data);
    entry.data = data.value;
    this.#files.push(entry);
    this.#tell('preserve', entry);
    return DONE;
  }

  /** luo_file_unpreserve_files(): lets go of every file, in reverse order. */
  unpreserveAll(): void {
    for (;;) {
      const entry = this.#files.at(-1);
      if (entry === undefined) break;
      const { handler, file } = this.#held(entry);
      handler.unpreserve({ ...this.#args(entry), file });
      this.#luo.flbs.fileUnpreserve(handler.compatible);
      this.#luo.preservedIds.delete(idOf(handler, file));
      this.#files.pop();
      this.#tell('unpreserve', entry);
      this.#luo.files.put(file, this.#holder);
    }
    this.#blocks.shrink(0);
  }

  /** luo_file_freeze(): the session's record for the next kernel. Errnos: those of a handler's freeze(). */
  freeze(): Result<SessionSer> {
    const frozen: LuoFile[] = [];
    for (const entry of this.#files) {
      const { handler, file } = this.#held(entry);
      const data = handler.freeze?.({ ...this.#args(entry), file }) ?? ok(entry.data);
      if (!data.ok) {
        this.#unfreeze(frozen);
        return data;
      }
      entry.data = data.value;
      frozen.push(entry);
      this.#tell('freeze', entry);
    }
    const written = this.#blocks.write(this.#files.map(encodeFile));
    if (!written.ok) {
      this.#unfreeze(frozen);
      return written;
    }
    const count = u64(this.#files.length);
    return ok({ name: this.#session, files: count === 0n ? 0n : this.#blocks.head, count });
  }

  /** luo_file_unfreeze(): takes a freeze() that succeeded back. */
  unfreeze(): void {
    this.#unfreeze(this.#files);
  }

  /** luo_file_deserialize(). Errnos: EINVAL blocks that cannot be right; ENOENT a record whose handler is missing. */
  deserialize(ser: SessionSer): Result<void> {
    if (ser.files === 0n) return DONE;
    const read = readBlocks(this.#luo.memory, ser.files, FILE_SER_BYTES);
    if (!read.ok) return read;
    if (u64(read.value.entries.length) !== ser.count) return refuse('EINVAL');
    for (const bytes of read.value.entries) {
      const { compatible, data, token } = decodeFile(bytes);
      if (!this.#luo.handlers.has(compatible)) {
        this.#luo.events.onWarn('luo_file_deserialize', `no handler for ${compatible}`);
        return refuse('ENOENT');
      }
      const entry = { token, compatible, file: null, data, status: { kind: 'untried' } as const };
      this.#files.push(entry);
      this.#tell('deserialize', entry);
    }
    for (const block of read.value.blocks) this.#luo.khoIn.restoreFree(block);
    return DONE;
  }

  /** luo_retrieve_file(). Errnos: ENOENT no such token; those of the handler's retrieve(), the first for ever. */
  retrieve(token: bigint): Result<OpenFile> {
    const entry = this.#files.find((file) => file.token === token);
    if (entry === undefined) return refuse('ENOENT');
    if (entry.status.kind === 'failed') return refuse(entry.status.errno);
    if (entry.status.kind === 'retrieved') return ok(this.#held(entry).file);
    const handler = this.#handler(entry);
    const file = handler.retrieve(this.#args(entry), this.#holder);
    if (!file.ok) {
      entry.status = { kind: 'failed', errno: file.errno };
      return file;
    }
    entry.file = file.value.id;
    entry.status = { kind: 'retrieved' };
    const id = idOf(handler, file.value);
    if (this.#luo.preservedIds.has(id)) {
      this.#luo.events.onWarn('luo_retrieve_file', `${file.value.name} is in a session already`);
    }
    this.#luo.preservedIds.add(id);
    this.#tell('retrieve', entry);
    return file;
  }

  /** luo_file_finish(). Errnos: EBUSY a file cannot finish, and then none is. */
  finish(): Result<void> {
    for (const entry of this.#files) {
      if (this.#handler(entry).canFinish?.(this.#args(entry)) === false) return refuse('EBUSY');
    }
    for (;;) {
      const entry = this.#files.at(-1);
      if (entry === undefined) return DONE;
      const handler = this.#handler(entry);
      handler.finish(this.#args(entry));
      this.#luo.flbs.fileFinish(handler.compatible);
      this.#files.pop();
      this.#tell('finish', entry);
      const file = entry.file === null ? undefined : this.#luo.files.find(entry.file);
      if (file === undefined) continue;
      this.#luo.preservedIds.delete(idOf(handler, file));
      this.#luo.files.put(file, this.#holder);
    }
  }

  state(): FileSetState {
    return structuredClone({ files: this.#files, blocks: this.#blocks.blocks });
  }

  #unfreeze(entries: readonly LuoFile[]): void {
    for (const entry of entries) {
      const { handler, file } = this.#held(entry);
      handler.unfreeze?.({ ...this.#args(entry), file });
      this.#tell('unfreeze', entry);
    }
  }

  #args(entry: LuoFile): FileOpArgs {
    return {
      session: this.#session,
      token: entry.token,
      file: entry.file === null ? null : (this.#luo.files.find(entry.file) ?? null),
      serializedData: entry.data,
      retrieveStatus: entry.status,
    };
  }

  #held(entry: LuoFile): { handler: LiveupdateFileHandler; file: OpenFile } {
    const { file } = this.#args(entry);
    if (file === null) throw new HarnessBug('LUO does not hold the file it preserves');
    return { handler: this.#handler(entry), file };
  }

  #handler(entry: LuoFile): LiveupdateFileHandler {
    const handler = this.#luo.handlers.get(entry.compatible);
    if (handler === undefined) throw new HarnessBug(`handler ${entry.compatible} is gone`);
    return handler;
  }

  get #holder(): FileHolder {
    return { kind: 'luo', session: this.#session };
  }

  #tell(step: LuoStep, entry: LuoFile): void {
    this.#luo.events.onLuo(step, entry.compatible, entry.token);
  }
}

function idOf(handler: LiveupdateFileHandler, file: OpenFile): string {
  const id = handler.getId?.(file);
  return id === undefined ? `file ${file.id}` : `${handler.compatible} ${id}`;
}
