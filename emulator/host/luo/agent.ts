/**
 * What a userspace agent does with LUO, as C would: fill a structure, call ioctl, read the structure.
 *
 * Source: Linux include/uapi/linux/liveupdate.h; tools/testing/selftests/liveupdate for how it is used.
 * Invariant: nothing here knows LUO's insides; every call goes through a process's descriptors.
 */
import {
  LIVEUPDATE_SESSION_NAME_LENGTH,
  LUO_IOCTL,
  LUO_STRUCT_SIZE,
  type LuoIoctlName,
} from '../../../abi/luo.js';
import type { Process } from '../process.js';
import { DONE, ok, type Result } from '../result.js';
import { decodeName } from './luo-abi.js';
import { LIVEUPDATE_DEVICE } from './luo.js';

/** A structure with its size filled in. */
export function luoStruct(name: LuoIoctlName): DataView {
  const view = new DataView(new ArrayBuffer(LUO_STRUCT_SIZE[name]));
  view.setUint32(0, view.byteLength, true);
  return view;
}

/** Opens /dev/liveupdate. Errnos: EBUSY open already; EIO deserialization failed; EMFILE; ENOENT live update is off. */
export function openLiveupdate(process: Process): Result<number> {
  return process.open(LIVEUPDATE_DEVICE);
}

/** The new session's descriptor. Errnos: EMFILE, EINVAL, ENOMEM, EEXIST. */
export function createSession(process: Process, device: number, name: string): Result<number> {
  return sessionCall(process, device, 'LIVEUPDATE_IOCTL_CREATE_SESSION', name);
}

/** The retrieved session's descriptor. Errnos: EMFILE, ENOENT, EINVAL. */
export function retrieveSession(process: Process, device: number, name: string): Result<number> {
  return sessionCall(process, device, 'LIVEUPDATE_IOCTL_RETRIEVE_SESSION', name);
}

/** Errnos: EEXIST, EBADF, ENOMEM, ENOENT, EBUSY, EINVAL on an incoming session, and the handler's own. */
export function preserveFd(
  process: Process,
  session: number,
  fd: number,
  token: bigint,
): Result<void> {
  const view = luoStruct('LIVEUPDATE_SESSION_PRESERVE_FD');
  view.setInt32(4, fd, true);
  view.setBigUint64(8, token, true);
  const done = call(process, session, 'LIVEUPDATE_SESSION_PRESERVE_FD', view);
  return done.ok ? DONE : done;
}

/** The file's new descriptor. Errnos: EMFILE, ENOENT, EINVAL on an outgoing session, and the handler's own. */
export function retrieveFd(process: Process, session: number, token: bigint): Result<number> {
  const view = luoStruct('LIVEUPDATE_SESSION_RETRIEVE_FD');
  view.setBigUint64(8, token, true);
  const done = call(process, session, 'LIVEUPDATE_SESSION_RETRIEVE_FD', view);
  return done.ok ? ok(view.getInt32(4, true)) : done;
}

/** Errnos: EBUSY a file cannot finish; EINVAL on an outgoing session. */
export function finishSession(process: Process, session: number): Result<void> {
  const view = luoStruct('LIVEUPDATE_SESSION_FINISH');
  const done = call(process, session, 'LIVEUPDATE_SESSION_FINISH', view);
  return done.ok ? DONE : done;
}

/** The name of a session. Errnos: none of its own. */
export function sessionName(process: Process, session: number): Result<string> {
  const view = luoStruct('LIVEUPDATE_SESSION_GET_NAME');
  const done = call(process, session, 'LIVEUPDATE_SESSION_GET_NAME', view);
  if (!done.ok) return done;
  return ok(decodeName(new Uint8Array(view.buffer, 8, LIVEUPDATE_SESSION_NAME_LENGTH)));
}

function sessionCall(
  process: Process,
  device: number,
  ioctl: LuoIoctlName,
  name: string,
): Result<number> {
  const view = luoStruct(ioctl);
  const bytes = new TextEncoder().encode(name).subarray(0, LIVEUPDATE_SESSION_NAME_LENGTH);
  new Uint8Array(view.buffer, 8).set(bytes);
  const done = call(process, device, ioctl, view);
  return done.ok ? ok(view.getInt32(4, true)) : done;
}

function call(process: Process, fd: number, name: LuoIoctlName, view: DataView): Result<number> {
  return process.ioctl(fd, LUO_IOCTL[name], new Uint8Array(view.buffer));
}
