/**
 * LUO sessions: named sets of files, outgoing in the kernel that preserves them, incoming in the next one.
 *
 * Source: Linux kernel/liveupdate/luo_session.c.
 * Invariant: a session is outgoing until its kernel dies; an incoming one answers calls only once it was retrieved, and
 * exactly once. Each outgoing session has room for its record from its creation on.
 * Not modelled: locks; calls that a reboot would block for ever throw CALL_NEVER_RETURNS.
 */
import { LIVEUPDATE_SESSION_NAME_LENGTH } from '../../../abi/luo.js';
import { BlockSet, readBlocks } from '../kho/block-set.js';
import { DONE, ok, refuse, type Result } from '../result.js';
import { FileSet, type FileSetState, type LuoContext } from './file-set.js';
import { decodeSession, encodeSession, SESSION_SER_BYTES, type SessionSer } from './luo-abi.js';

/** One session. `isRetrieved` tells an incoming session with a descriptor from an outgoing one. */
export interface LuoSession {
  readonly inode: number;
  readonly name: string;
  readonly fileSet: FileSet;
  isRetrieved: boolean;
}

interface SessionState {
  readonly inode: number;
  readonly name: string;
  readonly isRetrieved: boolean;
  readonly fileSet: FileSetState;
}

/** All sessions as plain data. */
export interface SessionsState {
  readonly outgoing: readonly SessionState[];
  readonly incoming: readonly SessionState[];
  readonly blocks: readonly bigint[];
}

export class Sessions {
  readonly #luo: LuoContext;
  #outgoing: LuoSession[] = [];
  #incoming: LuoSession[] = [];
  #blocks: BlockSet;

  constructor(luo: LuoContext) {
    this.#luo = luo;
    this.#blocks = this.#blockSet([]);
  }

  get outgoing(): readonly LuoSession[] {
    return this.#outgoing;
  }

  get incoming(): readonly LuoSession[] {
    return this.#incoming;
  }

  /** The session behind a session file. */
  find(inode: number): LuoSession | undefined {
    return [...this.#outgoing, ...this.#incoming].find((session) => session.inode === inode);
  }

  /** luo_session_create(). Errnos: EINVAL an empty or unterminated name; ENOMEM; EEXIST the name is taken. */
  create(name: string): Result<LuoSession> {
    const length = new TextEncoder().encode(name).length;
    if (length === 0 || length >= LIVEUPDATE_SESSION_NAME_LENGTH) return refuse('EINVAL');
    const room = this.#blocks.grow(this.#outgoing.length + 1);
    if (!room.ok) return room;
    if (this.#outgoing.some((session) => session.name === name)) {
      this.#blocks.shrink(this.#outgoing.length);
      return refuse('EEXIST');
    }
    const session = this.#session(name);
    this.#outgoing.push(session);
    return ok(session);
  }

  /** luo_session_retrieve(). Errnos: ENOENT no incoming session of that name; EINVAL retrieved already. */
  retrieve(name: string): Result<LuoSession> {
    const session = this.#incoming.find((one) => one.name === name);
    if (session === undefined) return refuse('ENOENT');
    if (session.isRetrieved) return refuse('EINVAL');
    session.isRetrieved = true;
    return ok(session);
  }

  /**
   * luo_session_release(): the last descriptor is gone. An outgoing session is cancelled, a retrieved one is finished.
   * A session that cannot finish is kept, without a descriptor, until the next kexec throws it away.
   */
  release(session: LuoSession): void {
    if (session.isRetrieved) {
      const finished = session.fileSet.finish();
      if (!finished.ok) {
        this.#luo.events.onWarn('luo_session_release', `${session.name}: ${finished.errno}`);
        return;
      }
      this.#incoming = this.#incoming.filter((one) => one !== session);
    } else {
      session.fileSet.unpreserveAll();
      this.#outgoing = this.#outgoing.filter((one) => one !== session);
      this.#blocks.shrink(this.#outgoing.length);
    }
  }

  /** luo_session_serialize(): freezes all, oldest first; the first block's address. Errnos: the failed freeze's. */
  serialize(): Result<bigint> {
    const records: SessionSer[] = [];
    for (const [index, session] of this.#outgoing.entries()) {
      const record = session.fileSet.freeze();
      if (!record.ok) {
        for (const earlier of this.#outgoing.slice(0, index).reverse()) earlier.fileSet.unfreeze();
        return record;
      }
      records.push(record.value);
    }
    const written = this.#blocks.write(records.map(encodeSession));
    return written.ok ? ok(this.#blocks.head) : written;
  }

  /** Takes serialize() back: newest session first. */
  unfreezeAll(): void {
    for (const session of [...this.#outgoing].reverse()) session.fileSet.unfreeze();
  }

  /** luo_session_deserialize(). Errnos: EINVAL broken blocks; EEXIST a name twice; ENOENT a handler is missing. */
  deserialize(head: bigint): Result<void> {
    const read = readBlocks(this.#luo.memory, head, SESSION_SER_BYTES);
    if (!read.ok) return read;
    for (const bytes of read.value.entries) {
      const record = decodeSession(bytes);
      if (this.#incoming.some((session) => session.name === record.name)) return refuse('EEXIST');
      const session = this.#session(record.name);
      this.#incoming.push(session);
      const files = session.fileSet.deserialize(record);
      if (!files.ok) return files;
    }
    for (const block of read.value.blocks) this.#luo.khoIn.restoreFree(block);
    return DONE;
  }

  state(): SessionsState {
    const plain = (session: LuoSession): SessionState => ({
      inode: session.inode,
      name: session.name,
      isRetrieved: session.isRetrieved,
      fileSet: session.fileSet.state(),
    });
    return {
      outgoing: this.#outgoing.map(plain),
      incoming: this.#incoming.map(plain),
      blocks: [...this.#blocks.blocks],
    };
  }

  /** Goes back to where `state` was taken. */
  restore(state: SessionsState): void {
    const revive = ({ inode, name, isRetrieved, fileSet }: SessionState): LuoSession => ({
      inode,
      name,
      isRetrieved,
      fileSet: new FileSet(this.#luo, name, fileSet),
    });
    this.#outgoing = state.outgoing.map(revive);
    this.#incoming = state.incoming.map(revive);
    this.#blocks = this.#blockSet(state.blocks);
  }

  #session(name: string): LuoSession {
    const inode = this.#luo.files.newInode();
    return { inode, name, fileSet: new FileSet(this.#luo, name), isRetrieved: false };
  }

  #blockSet(blocks: readonly bigint[]): BlockSet {
    const { memory, khoOut } = this.#luo;
    return new BlockSet(memory, khoOut, SESSION_SER_BYTES, 'LUO sessions', blocks);
  }
}
