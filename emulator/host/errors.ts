/** Calls that a modelled kernel can no longer answer: no errno exists for them, because they never return. */
import { HarnessError } from '../../abi/errors.js';

export type KernelErrorCode =
  /** The kernel was replaced by kexec. */
  | 'KERNEL_GONE'
  /** The call waits for a lock that a reboot in progress never gives back. */
  | 'CALL_NEVER_RETURNS'
  /** There is no room for what a kernel needs to boot. */
  | 'BOOT_FAILED';

/** A call into a kernel that cannot return. */
export class KernelError extends HarnessError<KernelErrorCode> {}
