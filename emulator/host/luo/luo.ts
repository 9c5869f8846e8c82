/**
 * The Live Update Orchestrator: /dev/liveupdate, its sessions, and its part in the reboot call.
 *
 * Happy path:
 * 1. Boot: earlyInit() finds the tree of the kernel before; handlers register; lateInit() lays out a tree of its own.
 * 2. An agent opens /dev/liveupdate; the first open deserializes what came in.
 * 3. The agent creates sessions and preserves files in them, and keeps the session descriptors open.
 * 4. reboot(): all files are frozen, sessions and FLBs written, KHO finalized. Session calls never return again.
 * 5. In the next kernel the agent retrieves sessions, then files, and finishes each session.
 *
 * Unhappy paths:
 * 1. The tree that came in is not understood: live update is disabled for this boot and the device does not exist.
 * 2. Deserialization fails: every open answers EIO until the next boot, and what was read is leaked on purpose.
 * 3. A freeze fails: rolled back, reboot() returns its errno, and the kernel goes on as before.
 * 4. KHO cannot be finalized: reboot() returns EAGAIN.
 *
 * Source: Linux kernel/liveupdate/luo_core.c, luo_session.c.
 * DEVIATION: after unhappy path 4 everything is unfrozen, as after path 3; Linux leaves files frozen.
 */
import {
  LIVEUPDATE_SESSION_NAME_LENGTH,
  LUO_IOCTL,
  type ErrnoName,
  type LuoIoctlName,
} from '../../../abi/luo.js';
import { HarnessBug } from '../../../abi/errors.js';
import { PAGE_SIZE } from '../../memory/physical-memory.js';
import { KernelError } from '../errors.js';
import type { OpenFile } from '../files.js';
import type { DeviceOpen, Process } from '../process.js';
import { DONE, ok, refuse, type Result } from '../result.js';
import type { LuoContext } from './file-set.js';
import type { FlbState } from './flb.js';
import type { LiveupdateFileHandler, LiveupdateFlb } from './handler.js';
import { decodeName, encodeName, fitsCompatible, LUO_SUBTREE } from './luo-abi.js';
import { readFlbPage, readLuoTree, writeFlbPage, writeLuoTree } from './luo-tree.js';
import { Sessions, type LuoSession, type SessionsState } from './session.js';
import { decodeUcmd, type Ucmd } from './ucmd.js';

/** The path of the device. */
export const LIVEUPDATE_DEVICE = '/dev/liveupdate';

const DEVICE_KIND = 'liveupdate';
const SESSION_KIND = 'luo-session';

const DEVICE_IOCTLS: readonly LuoIoctlName[] = [
  'LIVEUPDATE_IOCTL_CREATE_SESSION',
  'LIVEUPDATE_IOCTL_RETRIEVE_SESSION',
];
const SESSION_IOCTLS: readonly LuoIoctlName[] = [
  'LIVEUPDATE_SESSION_PRESERVE_FD',
  'LIVEUPDATE_SESSION_RETRIEVE_FD',
  'LIVEUPDATE_SESSION_FINISH',
  'LIVEUPDATE_SESSION_GET_NAME',
];

type Deserialized =
  | { readonly kind: 'not-yet' }
  | { readonly kind: 'done' }
  | { readonly kind: 'failed'; readonly errno: ErrnoName };

/** LUO as plain data; registered handlers and FLBs are the kernel's code and stay. */
export interface LuoState {
  readonly enabled: boolean;
  readonly liveupdateNumber: bigint;
  readonly incomingSessions: bigint;
  readonly tree: bigint;
  readonly flbPage: bigint;
  readonly inUse: boolean;
  readonly deserialized: Deserialized;
  readonly rebooting: boolean;
  readonly sessions: SessionsState;
  readonly flbs: FlbState;
  readonly preservedIds: readonly string[];
}

export class Luo {
  readonly #luo: LuoContext;
  readonly #sessions: Sessions;
  readonly #deviceInode: number;
  #enabled: boolean;
  #liveupdateNumber = 0n;
  #incomingSessions = 0n;
  #tree = 0n;
  #flbPage = 0n;
  #inUse = false;
  #deserialized: Deserialized = { kind: 'not-yet' };
  #rebooting = false;

  /** `enabled` is the kernel parameter liveupdate=; without KHO it is off. */
  constructor(luo: LuoContext, enabled: boolean) {
    this.#luo = luo;
    this.#enabled = enabled && luo.khoOut.enabled;
    this.#sessions = new Sessions(luo);
    this.#deviceInode = luo.files.newInode();
    luo.files.register(DEVICE_KIND, {
      release: () => (this.#inUse = false),
      ioctl: (_file, caller, command, argument) => this.#deviceIoctl(caller, command, argument),
    });
    luo.files.register(SESSION_KIND, {
      release: (file) => this.#releaseSession(file),
      ioctl: (file, caller, command, argument) =>
        this.#sessionIoctl(file, caller, command, argument),
    });
  }

  get enabled(): boolean {
    return this.#enabled;
  }

  /** How many live updates led to this kernel. */
  get liveupdateNumber(): bigint {
    return this.#liveupdateNumber;
  }

  get sessions(): Sessions {
    return this.#sessions;
  }

  /** Reads what the kernel before left. Errnos: EINVAL not understood, and live update is off from then on. */
  earlyInit(): Result<void> {
    if (!this.#enabled) return DONE;
    const hpa = this.#luo.khoIn.retrieveSubtree(LUO_SUBTREE);
    if (!hpa.ok && hpa.errno === 'ENOENT') return DONE;
    const done = hpa.ok ? this.#readIncoming(hpa.value) : hpa;
    if (!done.ok) {
      this.#enabled = false;
      this.#luo.events.onWarn(
        'liveupdate_early_init',
        'incoming tree refused, live update disabled',
      );
    }
    return done;
  }

  /** Lays out the outgoing tree and makes the device. Errnos: ENOMEM, EEXIST; live update is off then. */
  lateInit(devices: Map<string, DeviceOpen>): Result<void> {
    if (!this.#enabled) return DONE;
    const tree = this.#luo.khoOut.allocPreserve(PAGE_SIZE, 'LUO device tree');
    const flbs = this.#luo.khoOut.allocPreserve(PAGE_SIZE, 'LUO FLB data');
    const added = tree.ok ? this.#luo.khoOut.addSubtree(LUO_SUBTREE, tree.value.hpa) : tree;
    if (!tree.ok || !flbs.ok || !added.ok) {
      this.#enabled = false;
      return !flbs.ok ? flbs : added;
    }
    this.#tree = tree.value.hpa;
    this.#flbPage = flbs.value.hpa;
    this.#writeTree(0n);
    devices.set(LIVEUPDATE_DEVICE, (process) => this.#open(process));
    return DONE;
  }

  /** liveupdate_register_file_handler(). Errnos: EOPNOTSUPP off; EINVAL the name is too long; EEXIST. */
  registerFileHandler(handler: LiveupdateFileHandler): Result<void> {
    if (!this.#enabled) return refuse('EOPNOTSUPP');
    if (!fitsCompatible(handler.compatible)) return refuse('EINVAL');
    if (this.#luo.handlers.has(handler.compatible)) return refuse('EEXIST');
    this.#luo.handlers.set(handler.compatible, handler);
    return DONE;
  }

  /**
   * liveupdate_register_flb(): files of `handler` depend on `flb` from now on.
   *
   * Errnos: EOPNOTSUPP off; EINVAL the handler is not registered, the name is too long; EBUSY sessions exist; EEXIST;
   * ENOSPC.
   */
  registerFlb(handler: LiveupdateFileHandler, flb: LiveupdateFlb): Result<void> {
    if (!this.#enabled) return refuse('EOPNOTSUPP');
    if (this.#luo.handlers.get(handler.compatible) !== handler) return refuse('EINVAL');
    if (this.#sessions.outgoing.length + this.#sessions.incoming.length > 0) return refuse('EBUSY');
    return this.#luo.flbs.register(handler.compatible, flb);
  }

  /** liveupdate_flb_get_incoming(), from earlyInit() on. Errnos: EOPNOTSUPP off; ENODATA; ENOENT; the FLB's own. */
  getIncomingFlb(flb: LiveupdateFlb): Result<bigint> {
    return this.#enabled ? this.#luo.flbs.getIncoming(flb) : refuse('EOPNOTSUPP');
  }

  /** The data of an FLB while a file keeps it preserved. */
  getOutgoingFlb(flb: LiveupdateFlb): bigint | undefined {
    return this.#luo.flbs.getOutgoing(flb);
  }

  /** liveupdate_reboot(). Errnos: a failed freeze's; EAGAIN KHO cannot be finalized. Nothing has changed then. */
  reboot(): Result<void> {
    if (!this.#enabled) return DONE;
    this.#assertRunning();
    const sessions = this.#sessions.serialize();
    if (!sessions.ok) return sessions;
    writeFlbPage(this.#luo.memory, this.#flbPage, this.#luo.flbs.serialize());
    this.#writeTree(sessions.value);
    const finalized = this.#luo.khoOut.finalize();
    if (!finalized.ok) {
      this.#sessions.unfreezeAll();
      return refuse('EAGAIN');
    }
    this.#rebooting = true;
    return DONE;
  }

  state(): LuoState {
    return {
      enabled: this.#enabled,
      liveupdateNumber: this.#liveupdateNumber,
      incomingSessions: this.#incomingSessions,
      tree: this.#tree,
      flbPage: this.#flbPage,
      inUse: this.#inUse,
      deserialized: this.#deserialized,
      rebooting: this.#rebooting,
      sessions: this.#sessions.state(),
      flbs: this.#luo.flbs.state(),
      preservedIds: [...this.#luo.preservedIds],
    };
  }

  /** Goes back to where `state` was taken. */
  restore(state: LuoState): void {
    this.#enabled = state.enabled;
    this.#liveupdateNumber = state.liveupdateNumber;
    this.#incomingSessions = state.incomingSessions;
    this.#tree = state.tree;
    this.#flbPage = state.flbPage;
    this.#inUse = state.inUse;
    this.#deserialized = state.deserialized;
    this.#rebooting = state.rebooting;
    this.#sessions.restore(state.sessions);
    this.#luo.flbs.restore(state.flbs);
    this.#luo.preservedIds.clear();
    for (const id of state.preservedIds) this.#luo.preservedIds.add(id);
  }

  #readIncoming(hpa: bigint): Result<void> {
    const tree = readLuoTree(this.#luo.memory, hpa);
    if (!tree.ok) return tree;
    const flbs = readFlbPage(this.#luo.memory, tree.value.flbPage);
    if (!flbs.ok) return flbs;
    this.#liveupdateNumber = tree.value.liveupdateNumber;
    this.#incomingSessions = tree.value.sessions;
    this.#luo.flbs.setupIncoming(flbs.value);
    return DONE;
  }

  #writeTree(sessions: bigint): void {
    writeLuoTree(this.#luo.memory, this.#tree, {
      liveupdateNumber: this.#liveupdateNumber + 1n,
      sessions,
      flbPage: this.#flbPage,
    });
  }

  #open(process: Process): Result<number> {
    const fd = process.unusedFd();
    if (!fd.ok) return fd;
    if (this.#inUse) return refuse('EBUSY');
    if (!this.#deserialize()) return refuse('EIO');
    this.#inUse = true;
    return process.openFile(DEVICE_KIND, this.#deviceInode, LIVEUPDATE_DEVICE);
  }

  #deserialize(): boolean {
    if (this.#deserialized.kind === 'not-yet') {
      const done = this.#sessions.deserialize(this.#incomingSessions);
      this.#deserialized = done.ok ? { kind: 'done' } : { kind: 'failed', errno: done.errno };
    }
    return this.#deserialized.kind === 'done';
  }

  #deviceIoctl(caller: Process, command: number, argument: Uint8Array | null): Result<number> {
    const table = { names: DEVICE_IOCTLS, isAllowed: () => true };
    const ucmd = decodeUcmd(table, command, argument);
    if (!ucmd.ok) return ucmd;
    const { name, view } = ucmd.value;
    const fd = caller.unusedFd();
    if (!fd.ok) return fd;
    this.#assertRunning();
    const field = new Uint8Array(view.buffer, 8, LIVEUPDATE_SESSION_NAME_LENGTH);
    const sessionName = decodeName(field);
    const session =
      LUO_IOCTL[name] === LUO_IOCTL.LIVEUPDATE_IOCTL_CREATE_SESSION
        ? this.#sessions.create(sessionName)
        : this.#sessions.retrieve(sessionName);
    if (!session.ok) return session;
    const opened = caller.openFile(
      SESSION_KIND,
      session.value.inode,
      `[luo_session] ${session.value.name}`,
    );
    if (!opened.ok) throw new HarnessBug('a descriptor was free a moment ago');
    view.setInt32(4, opened.value, true);
    ucmd.value.respond();
    return ok(0);
  }

  #sessionIoctl(
    file: OpenFile,
    caller: Process,
    command: number,
    argument: Uint8Array | null,
  ): Result<number> {
    const session = this.#sessionOf(file);
    const ucmd = decodeUcmd(
      { names: SESSION_IOCTLS, isAllowed: (name) => isDirection(name, session.isRetrieved) },
      command,
      argument,
    );
    if (!ucmd.ok) return ucmd;
    this.#assertRunning();
    const done = this.#execute(session, caller, ucmd.value);
    if (!done.ok) return done;
    ucmd.value.respond();
    return ok(0);
  }

  #execute(session: LuoSession, caller: Process, { name, view }: Ucmd): Result<void> {
    switch (name) {
      case 'LIVEUPDATE_SESSION_PRESERVE_FD': {
        const fd = view.getInt32(4, true);
        return session.fileSet.preserve(view.getBigUint64(8, true), caller.file(fd));
      }
      case 'LIVEUPDATE_SESSION_RETRIEVE_FD': {
        const fd = caller.unusedFd();
        if (!fd.ok) return fd;
        const file = session.fileSet.retrieve(view.getBigUint64(8, true));
        if (!file.ok) return file;
        caller.installFile(file.value);
        view.setInt32(4, fd.value, true);
        return DONE;
      }
      case 'LIVEUPDATE_SESSION_FINISH':
        return view.getUint32(4, true) === 0 ? session.fileSet.finish() : refuse('EINVAL');
      case 'LIVEUPDATE_SESSION_GET_NAME': {
        if (view.getUint32(4, true) !== 0) return refuse('EINVAL');
        const field = new Uint8Array(view.buffer, 8, LIVEUPDATE_SESSION_NAME_LENGTH);
        field.set(encodeName(session.name, field.length));
        return DONE;
      }
      case 'LIVEUPDATE_IOCTL_CREATE_SESSION':
      case 'LIVEUPDATE_IOCTL_RETRIEVE_SESSION':
        throw new HarnessBug(`${name} is the device's`);
    }
  }

  #releaseSession(file: OpenFile): void {
    this.#assertRunning();
    this.#sessions.release(this.#sessionOf(file));
  }

  #sessionOf(file: OpenFile): LuoSession {
    const session = this.#sessions.find(file.inode);
    if (session === undefined) throw new HarnessBug(`${file.name} has no session`);
    return session;
  }

  #assertRunning(): void {
    if (!this.#rebooting) return;
    throw new KernelError('CALL_NEVER_RETURNS', 'sessions are frozen for good: the kernel reboots');
  }
}

function isDirection(name: LuoIoctlName, isRetrieved: boolean): boolean {
  if (name === 'LIVEUPDATE_SESSION_GET_NAME') return true;
  return (name === 'LIVEUPDATE_SESSION_PRESERVE_FD') !== isRetrieved;
}
