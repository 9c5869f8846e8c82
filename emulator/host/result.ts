/**
 * What a modelled kernel call returns: its value, or the errno it was refused with.
 *
 * Source: Linux uapi/asm-generic/errno*.h, through abi/luo.ts.
 * Invariant: a refused call is a value and never an exception; exceptions are for bugs of ours and for calls into a
 * kernel that is gone.
 */
import type { ErrnoName } from '../../abi/luo.js';

/** A call that succeeded. */
export interface Ok<T> {
  readonly ok: true;
  readonly value: T;
}

/** A call that was refused. */
export interface Refused {
  readonly ok: false;
  readonly errno: ErrnoName;
}

/** The outcome of a modelled kernel call. */
export type Result<T> = Ok<T> | Refused;

/** The outcome of a call that has nothing to tell but success. */
export const DONE: Ok<void> = { ok: true, value: undefined };

/** Success with a value. */
export function ok<T>(value: T): Ok<T> {
  return { ok: true, value };
}

/** Refusal with an errno. */
export function refuse(errno: ErrnoName): Refused {
  return { ok: false, errno };
}
