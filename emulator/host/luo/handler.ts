/**
 * What LUO asks of a subsystem whose files, or whose global data, can cross a live update.
 *
 * Source: Linux include/linux/liveupdate.h: struct liveupdate_file_ops, struct liveupdate_flb_ops.
 * Invariant: all that crosses is the u64 of serialized data and the preserved pages it leads to.
 * Not modelled: private_data; a handler keeps what it must remember under the file's inode.
 */
import type { ErrnoName } from '../../../abi/luo.js';
import type { FileHolder, OpenFile } from '../files.js';
import type { Result } from '../result.js';

/** How far retrieval of a file has come; a failure is remembered and told again. */
export type RetrieveStatus =
  | { readonly kind: 'untried' }
  | { readonly kind: 'retrieved' }
  | { readonly kind: 'failed'; readonly errno: ErrnoName };

/** struct liveupdate_file_op_args. */
export interface FileOpArgs {
  /** The session's name. */
  readonly session: string;
  readonly token: bigint;
  /** Null in the next kernel until the file is retrieved. */
  readonly file: OpenFile | null;
  /** The handle that crosses; in practice the address of a preserved record. */
  readonly serializedData: bigint;
  readonly retrieveStatus: RetrieveStatus;
}

/** A file handler: one kind of file that can be preserved. */
export interface LiveupdateFileHandler {
  /** Ends up in the file's record, at most 47 bytes; the next kernel finds its handler by it. */
  readonly compatible: string;
  canPreserve(file: OpenFile): boolean;
  /** Saves the file while its workload may run; the value is the serialized data. */
  preserve(args: FileOpArgs & { readonly file: OpenFile }): Result<bigint>;
  /** Takes preserve() back. */
  unpreserve(args: FileOpArgs & { readonly file: OpenFile }): void;
  /** Last look before the jump, in the reboot call; the value is the final serialized data. */
  freeze?(args: FileOpArgs & { readonly file: OpenFile }): Result<bigint>;
  /** Takes freeze() back. */
  unfreeze?(args: FileOpArgs & { readonly file: OpenFile }): void;
  /** Makes the file anew, opened with `holder` as its first holder. */
  retrieve(args: FileOpArgs, holder: FileHolder): Result<OpenFile>;
  /** Whether finish() may run now. */
  canFinish?(args: FileOpArgs): boolean;
  /** Lets go of all that was preserved; a file never retrieved is freed with it. */
  finish(args: FileOpArgs): void;
  /** What two openings of one file share; the struct file itself unless given. */
  getId?(file: OpenFile): number;
}

/** File-lifecycle-bound data: one object for all files of the handlers that depend on it. */
export interface LiveupdateFlb {
  /** At most 47 bytes. */
  readonly compatible: string;
  /** The first dependent file is being preserved; the value is the data that crosses. */
  preserve(): Result<bigint>;
  /** The last dependent file was unpreserved. */
  unpreserve(data: bigint): void;
  /** First use in the next kernel, perhaps very early in boot. */
  retrieve(data: bigint): Result<void>;
  /** The last dependent file was finished. */
  finish(data: bigint): void;
}
