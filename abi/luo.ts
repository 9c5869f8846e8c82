/**
 * The Live Update Orchestrator's user interface as numbers: ioctls, structure sizes, and Linux errno values.
 *
 * Source: Linux include/uapi/linux/liveupdate.h, kernel/liveupdate/luo_session.c, uapi/asm-generic/errno*.h.
 * Invariant: every LUO ioctl is _IO(0xBA, nr): no size and no direction bits; each structure begins with its u32 size.
 * Not modelled: the wire format of the preserved data.
 */

/** The type byte of every LUO ioctl. */
export const LIVEUPDATE_IOCTL_TYPE = 0xba;

// prettier-ignore
export const LUO_IOCTL = {
  LIVEUPDATE_IOCTL_CREATE_SESSION:    0xba00,
  LIVEUPDATE_IOCTL_RETRIEVE_SESSION:  0xba01,
  LIVEUPDATE_SESSION_PRESERVE_FD:     0xba40,
  LIVEUPDATE_SESSION_RETRIEVE_FD:     0xba41,
  LIVEUPDATE_SESSION_FINISH:          0xba42,
  LIVEUPDATE_SESSION_GET_NAME:        0xba43, // newer kernels only
} as const;

/** The name of a LUO ioctl. */
export type LuoIoctlName = keyof typeof LUO_IOCTL;

// prettier-ignore
/** Bytes of each ioctl's structure. */
export const LUO_STRUCT_SIZE: Readonly<Record<LuoIoctlName, number>> = {
  LIVEUPDATE_IOCTL_CREATE_SESSION:    72, // u32 size, s32 fd (out), u8 name[64]
  LIVEUPDATE_IOCTL_RETRIEVE_SESSION:  72, // the same
  LIVEUPDATE_SESSION_PRESERVE_FD:     16, // u32 size, s32 fd, u64 token
  LIVEUPDATE_SESSION_RETRIEVE_FD:     16, // u32 size, s32 fd (out), u64 token
  LIVEUPDATE_SESSION_FINISH:           8, // u32 size, u32 reserved = 0
  LIVEUPDATE_SESSION_GET_NAME:        72, // u32 size, u32 reserved = 0, u8 name[64] (out)
};

/** Bytes of a session name, its terminating NUL included. */
export const LIVEUPDATE_SESSION_NAME_LENGTH = 64;

// prettier-ignore
/** Linux errno values. ENOIOCTLCMD and ERESTART* are kernel-internal; ENOIOCTLCMD reaches userspace as ENOTTY. */
export const ERRNO = {
  EPERM: 1, ENOENT: 2, ESRCH: 3, EINTR: 4, EIO: 5, ENXIO: 6, E2BIG: 7, ENOEXEC: 8, EBADF: 9, ECHILD: 10,
  EAGAIN: 11, ENOMEM: 12, EACCES: 13, EFAULT: 14, ENOTBLK: 15, EBUSY: 16, EEXIST: 17, EXDEV: 18, ENODEV: 19,
  ENOTDIR: 20, EISDIR: 21, EINVAL: 22, ENFILE: 23, EMFILE: 24, ENOTTY: 25, ETXTBSY: 26, EFBIG: 27, ENOSPC: 28,
  ESPIPE: 29, EROFS: 30, EMLINK: 31, EPIPE: 32, EDOM: 33, ERANGE: 34, EDEADLK: 35, ENAMETOOLONG: 36, ENOLCK: 37,
  ENOSYS: 38, ENOTEMPTY: 39, ELOOP: 40, ENODATA: 61, ETIME: 62, ENOPKG: 65, EPROTO: 71, EBADMSG: 74, EOVERFLOW: 75,
  EILSEQ: 84, EMSGSIZE: 90, EPROTONOSUPPORT: 93, EOPNOTSUPP: 95, EADDRINUSE: 98, EADDRNOTAVAIL: 99,
  ENOBUFS: 105, ETIMEDOUT: 110, EALREADY: 114, EINPROGRESS: 115, ESTALE: 116, EREMOTEIO: 121, ECANCELED: 125,
  ENOKEY: 126, EKEYEXPIRED: 127, EKEYREVOKED: 128, EKEYREJECTED: 129, EOWNERDEAD: 130, ENOTRECOVERABLE: 131,
  EHWPOISON: 133,
  ERESTARTSYS: 512, ENOIOCTLCMD: 515, EPROBE_DEFER: 517, ENOTSUPP: 524,
} as const;

/** The name of a Linux errno. */
export type ErrnoName = keyof typeof ERRNO;

const ERRNO_BY_NUMBER: ReadonlyMap<number, ErrnoName> = new Map(
  (Object.entries(ERRNO) as [ErrnoName, number][]).map(([name, number]) => [number, name]),
);

/** The name of an errno number, sign ignored; undefined for one that is not in the table. */
export function errnoName(number: number): ErrnoName | undefined {
  return ERRNO_BY_NUMBER.get(Math.abs(number));
}

/** What userspace sees: ENOIOCTLCMD becomes ENOTTY, every other errno is itself. */
export function userspaceErrno(name: ErrnoName): ErrnoName {
  return name === 'ENOIOCTLCMD' ? 'ENOTTY' : name;
}
