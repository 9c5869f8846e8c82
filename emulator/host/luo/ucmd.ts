/**
 * How LUO decodes an ioctl: command number, structure size, unknown tail.
 *
 * Source: Linux luo_core.c: luo_ioctl(); luo_session.c: luo_session_ioctl(); lib/usercopy.c: copy_struct_from_user().
 * Invariant: checks run in this order: number in the table, readable size, exact command, direction, minimum size, zero
 * tail. An operation sees a whole structure, whatever size its caller was built with.
 */
import type { LuoIoctlName } from '../../../abi/luo.js';
import { LUO_IOCTL, LUO_STRUCT_SIZE, userspaceErrno } from '../../../abi/luo.js';
import { ok, refuse, type Result } from '../result.js';

/** Which ioctls an object answers, and in which state. */
export interface IoctlTable {
  readonly names: readonly LuoIoctlName[];
  /** Whether the object's direction allows the call. */
  isAllowed(name: LuoIoctlName): boolean;
}

/** A decoded call: `view` is the kernel's copy of the structure; respond() copies it back. */
export interface Ucmd {
  readonly name: LuoIoctlName;
  readonly view: DataView;
  respond(): void;
}

/**
 * Decodes a call.
 *
 * Errnos: EINVAL a number outside the table, the wrong direction, too small a structure; EFAULT the structure is not
 * readable; ENOTTY the number is known and the rest of the command is not; E2BIG a tail that is not zero.
 */
export function decodeUcmd(
  table: IoctlTable,
  command: number,
  argument: Uint8Array | null,
): Result<Ucmd> {
  const name = table.names.find((known) => (LUO_IOCTL[known] & 0xff) === (command & 0xff));
  if (name === undefined) return refuse('EINVAL');
  if (argument === null || argument.length < 4) return refuse('EFAULT');
  const user = new DataView(argument.buffer, argument.byteOffset, argument.length);
  const userBytes = user.getUint32(0, true);
  if (command !== LUO_IOCTL[name]) return refuse(userspaceErrno('ENOIOCTLCMD'));
  if (!table.isAllowed(name)) return refuse('EINVAL');
  // Every structure ends with a field that has been there from the start: its minimum is its size.
  const sizeBytes = LUO_STRUCT_SIZE[name];
  if (userBytes < sizeBytes) return refuse('EINVAL');
  if (argument.length < userBytes) return refuse('EFAULT');
  if (argument.subarray(sizeBytes, userBytes).some((byte) => byte !== 0)) return refuse('E2BIG');
  const copy = argument.slice(0, sizeBytes);
  return ok({
    name,
    view: new DataView(copy.buffer),
    respond: () => argument.set(copy),
  });
}
