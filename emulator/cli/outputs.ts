/**
 * Files and folders that options name for results.
 *
 * Invariant: they are made before the work is done, so that what cannot be written is said at once and no work is lost.
 */
import { closeSync, existsSync, mkdirSync, openSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { CliUsageError, shownName, systemReason } from './errors.js';

/** A file that is open; what is written is all of it. */
export interface OutputFile {
  readonly write: (text: string) => void;
}

/** The file of an option, open. @throws CliUsageError FILE_UNWRITABLE, now or when it is written. */
export function openOutput(option: string, file: string): OutputFile {
  const descriptor = writing(option, file, () => {
    if (file === '-') throw new Error('stdout has the result');
    return openSync(file, 'w');
  });
  return {
    write: (text) => {
      writing(option, file, () => {
        writeFileSync(descriptor, text);
        closeSync(descriptor);
      });
    },
  };
}

/** The folder of an option, made unless it exists. @throws CliUsageError FILE_UNWRITABLE. */
export function openFolder(option: string, folder: string): void {
  writing(option, folder, () => {
    if (existsSync(folder)) return;
    // Not the folder itself: mkdir -p never ends where a file system makes no folders.
    mkdirSync(dirname(folder), { recursive: true });
    mkdirSync(folder);
  });
}

/** Does some of an option's writing. @throws CliUsageError FILE_UNWRITABLE. */
export function writing<T>(option: string, file: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    const message = `${option} ${shownName(file)}: cannot be written: ${systemReason(cause)}`;
    throw new CliUsageError('FILE_UNWRITABLE', message, { file }, { cause });
  }
}
