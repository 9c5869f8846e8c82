/**
 * Processes as far as a live update sees them: a descriptor table that dies with its process.
 *
 * Source: Linux fs/file.c: get_unused_fd_flags(), fd_install(), close_files().
 * Invariant: exit closes every descriptor, lowest first; a file that LUO holds too survives it.
 * Not modelled: threads, signals, address spaces; a user structure is a Uint8Array.
 */
import { KernelError } from './errors.js';
import type { FileTable, OpenFile } from './files.js';
import { DONE, ok, refuse, type Result } from './result.js';

/** RLIMIT_NOFILE of a new process. */
export const DEFAULT_MAX_FDS = 1024;

/** A privilege that a call asks for; a process has all of them until it drops one. */
export type Capability = 'CAP_SYS_BOOT' | 'CAP_SYS_ADMIN';
const ALL_CAPABILITIES: readonly Capability[] = ['CAP_SYS_BOOT', 'CAP_SYS_ADMIN'];

/** A process as plain data; descriptors by number. */
export interface ProcessState {
  readonly pid: number;
  readonly name: string;
  readonly maxFds: number;
  readonly exited: boolean;
  readonly capabilities: readonly Capability[];
  readonly fds: readonly { readonly fd: number; readonly file: number }[];
}

/** Opens the thing behind a path for a process and installs it; refuses with the device's own errnos. */
export type DeviceOpen = (process: Process) => Result<number>;

export class Process {
  readonly pid: number;
  readonly name: string;
  readonly maxFds: number;
  #exited = false;
  #isKilled = false;
  readonly #capabilities = new Set<Capability>(ALL_CAPABILITIES);
  readonly #fds = new Map<number, number>();
  readonly #files: FileTable;
  readonly #devices: ReadonlyMap<string, DeviceOpen>;

  constructor(
    files: FileTable,
    devices: ReadonlyMap<string, DeviceOpen>,
    identity: Pick<ProcessState, 'pid' | 'name' | 'maxFds'>,
  ) {
    this.#files = files;
    this.#devices = devices;
    this.pid = identity.pid;
    this.name = identity.name;
    this.maxFds = identity.maxFds;
  }

  get exited(): boolean {
    return this.#exited;
  }

  /** capable(). */
  has(capability: Capability): boolean {
    return this.#capabilities.has(capability);
  }

  /** Gives a privilege up for good. */
  drop(capability: Capability): void {
    this.#capabilities.delete(capability);
  }

  /** The kernel under it is gone: no call answers any more. */
  kill(): void {
    this.#isKilled = true;
  }

  /** Errnos: ENOENT no such path, ESRCH after exit, and the device's own. */
  open(path: string): Result<number> {
    this.#assertAlive();
    if (this.#exited) return refuse('ESRCH');
    return this.#devices.get(path)?.(this) ?? refuse('ENOENT');
  }

  /** The lowest free descriptor, not yet in use. Errnos: EMFILE. */
  unusedFd(): Result<number> {
    for (let fd = 0; fd < this.maxFds; fd++) if (!this.#fds.has(fd)) return ok(fd);
    return refuse('EMFILE');
  }

  /** Opens a new file at the lowest free descriptor. Errnos: EMFILE. */
  openFile(kind: string, inode: number, name: string): Result<number> {
    const fd = this.unusedFd();
    if (!fd.ok) return fd;
    const file = this.#files.open(kind, inode, name, this.#holder(fd.value));
    this.#fds.set(fd.value, file.id);
    return fd;
  }

  /** A further descriptor of an open file. Errnos: EMFILE. */
  installFile(file: OpenFile): Result<number> {
    const fd = this.unusedFd();
    if (!fd.ok) return fd;
    this.#files.get(file, this.#holder(fd.value));
    this.#fds.set(fd.value, file.id);
    return fd;
  }

  /** The file behind a descriptor: fget() without the reference. */
  file(fd: number): OpenFile | undefined {
    const id = this.#fds.get(fd);
    return id === undefined ? undefined : this.#files.find(id);
  }

  /** Errnos: EBADF. What release does is not close's to report. */
  close(fd: number): Result<void> {
    this.#assertAlive();
    const file = this.file(fd);
    if (file === undefined) return refuse('EBADF');
    this.#fds.delete(fd);
    this.#files.put(file, this.#holder(fd));
    return DONE;
  }

  /** Errnos: EBADF, ENOTTY, and those of the file's kind. */
  ioctl(fd: number, command: number, argument: Uint8Array | null): Result<number> {
    this.#assertAlive();
    const file = this.file(fd);
    return file === undefined ? refuse('EBADF') : this.#files.ioctl(file, this, command, argument);
  }

  /** Ends the process: every descriptor is closed. */
  exit(): void {
    this.#assertAlive();
    this.#exited = true;
    for (const fd of [...this.#fds.keys()].sort((a, b) => a - b)) this.close(fd);
  }

  state(): ProcessState {
    return {
      pid: this.pid,
      name: this.name,
      maxFds: this.maxFds,
      exited: this.#exited,
      capabilities: [...this.#capabilities],
      fds: [...this.#fds].map(([fd, file]) => ({ fd, file })),
    };
  }

  /** Goes back to where `state` was taken. */
  restore(state: ProcessState): void {
    this.#exited = state.exited;
    this.#isKilled = false;
    this.#capabilities.clear();
    for (const capability of state.capabilities) this.#capabilities.add(capability);
    this.#fds.clear();
    for (const { fd, file } of state.fds) this.#fds.set(fd, file);
  }

  #assertAlive(): void {
    if (!this.#isKilled) return;
    throw new KernelError('KERNEL_GONE', `process ${this.pid} (${this.name}) died with its kernel`);
  }

  #holder(fd: number) {
    return { kind: 'process', pid: this.pid, fd } as const;
  }
}
