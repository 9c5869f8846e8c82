/**
 * Files over the wire: `vFile` for the payload, so that GDB finds its symbols with no file of its own.
 *
 * Source: GDB manual, "Remote Protocol", "Host I/O Packets" and "File-I/O Remote Protocol Extension" ("Errno Values",
 * "Open Flags", "struct stat").
 * Invariant: the one file there is is the payload, and nobody can write it.
 */
import { parseCount, stringOfHex, textOfBytes } from '../bytes.js';
import { MAX_PACKET, escaped } from '../framing.js';
import { UNSUPPORTED, type GdbSession, type Reply } from '../session.js';

const ERRNO = { ENOENT: 2, EBADF: 9, EINVAL: 22, EMFILE: 24, EROFS: 30 } as const;
const MOST_OPEN = 64;
/** O_WRONLY, O_RDWR, O_APPEND, O_CREAT, O_TRUNC. */
const WRITING = 0x1 | 0x2 | 0x8 | 0x200 | 0x400;
const STAT_BYTES = 64;
/** S_IFREG and r--r--r--. */
const MODE = 0o100444;

function failure(errno: number): Reply {
  return `F-1,${errno.toString(16)}`;
}

function withData(data: Uint8Array): Reply {
  return `F${data.length.toString(16)};${escaped(textOfBytes(data))}`;
}

function open(session: GdbSession, text: string): Reply {
  const [name = '', flags] = text.split(',');
  const path = stringOfHex(name);
  const mode = parseCount(flags);
  if (path === null || mode === null) return failure(ERRNO.EINVAL);
  if (path !== session.target.executable.path) return failure(ERRNO.ENOENT);
  if ((mode & WRITING) !== 0) return failure(ERRNO.EROFS);
  if (session.openFiles.size >= MOST_OPEN) return failure(ERRNO.EMFILE);
  let descriptor = 0;
  while (session.openFiles.has(descriptor)) descriptor++;
  session.openFiles.set(descriptor, session.target.executable.bytes);
  return `F${descriptor.toString(16)}`;
}

function pread(session: GdbSession, text: string): Reply {
  const [descriptor, count, offset] = text.split(',').map(parseCount);
  if (typeof descriptor !== 'number' || typeof count !== 'number' || typeof offset !== 'number') {
    return failure(ERRNO.EINVAL);
  }
  const bytes = session.openFiles.get(descriptor);
  if (bytes === undefined) return failure(ERRNO.EBADF);
  const most = Math.min(count, MAX_PACKET / 2);
  return withData(bytes.subarray(offset, offset + most));
}

function close(session: GdbSession, text: string): Reply {
  const descriptor = parseCount(text);
  const wasOpen = descriptor !== null && session.openFiles.delete(descriptor);
  return wasOpen ? 'F0' : failure(ERRNO.EBADF);
}

function statOf(bytes: Uint8Array): Uint8Array {
  const stat = new Uint8Array(STAT_BYTES);
  const view = new DataView(stat.buffer);
  // struct stat: dev, ino, mode, nlink, uid, gid, rdev (32 bits each), size, blksize, blocks (64 bits each), times.
  view.setUint32(8, MODE);
  view.setUint32(12, 1);
  view.setBigUint64(28, BigInt(bytes.length));
  view.setBigUint64(36, 4096n);
  view.setBigUint64(44, BigInt(Math.ceil(bytes.length / 512)));
  return stat;
}

function fstat(session: GdbSession, text: string): Reply {
  const descriptor = parseCount(text);
  const bytes = descriptor === null ? undefined : session.openFiles.get(descriptor);
  return bytes === undefined ? failure(ERRNO.EBADF) : withData(statOf(bytes));
}

function stat(session: GdbSession, text: string): Reply {
  const { path, bytes } = session.target.executable;
  return stringOfHex(text) === path ? withData(statOf(bytes)) : failure(ERRNO.ENOENT);
}

type FileCall = (session: GdbSession, text: string) => Reply;

const CALLS: Readonly<Record<string, FileCall>> = {
  open,
  pread,
  close,
  fstat,
  stat,
  lstat: stat,
  setfs: () => 'F0',
  readlink: () => failure(ERRNO.EINVAL),
  pwrite: () => failure(ERRNO.EROFS),
  unlink: () => failure(ERRNO.EROFS),
};

/** `vFile:call:arguments`. */
export function fileCall(session: GdbSession, text: string): Reply {
  const colon = text.indexOf(':');
  const name = colon < 0 ? text : text.slice(0, colon);
  if (!Object.hasOwn(CALLS, name)) return UNSUPPORTED;
  return CALLS[name]!(session, colon < 0 ? '' : text.slice(colon + 1));
}
