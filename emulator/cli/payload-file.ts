/**
 * The payload argument of every command: which file it names, and its bytes.
 *
 * Invariant: never more than the loader's limit and one byte is read, whatever the path names; the loader refuses
 * what is longer.
 */
import { join, relative } from 'node:path';
import { HarnessError } from '../../abi/errors.js';
import { LIMITS } from '../../loader/limits.js';
import { packageRoot } from '../machine/package-root.js';
import { readFileUpTo } from '../machine/read-file.js';
import { CliUsageError, RefusedFileError, shownName, systemReason } from './errors.js';

/** The payload argument as commands declare it. */
export const PAYLOAD_ARGUMENT = {
  type: 'string',
  describe: 'The payload, an ELF file (default: the reference payload)',
} as const;

/** The path of the reference payload, relative where that is shorter to read. */
export function referencePayload(): string {
  const path = join(packageRoot(), 'caretaker-payload', 'build', 'caretaker.elf');
  const fromHere = relative(process.cwd(), path);
  return fromHere.startsWith('..') ? path : fromHere;
}

/** The bytes of a payload file. @throws CliUsageError FILE_UNREADABLE with the file's name. */
export function readPayloadFile(file: string): Uint8Array {
  try {
    return readFileUpTo(file, LIMITS.fileBytes + 1);
  } catch (cause) {
    const isReference = file === referencePayload();
    const hint = isReference ? '; build the reference payload with `make payload`' : '';
    const message = `${shownName(file)}: cannot be read: ${systemReason(cause)}${hint}`;
    throw new CliUsageError('FILE_UNREADABLE', message, { file }, { cause });
  }
}

/** Runs a reader of `file`'s content, and puts the file's name to what it refuses. */
export function naming<T>(file: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw error instanceof HarnessError ? RefusedFileError.of(file, error as HarnessError) : error;
  }
}
