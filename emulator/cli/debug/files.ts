/** The disk as the REPL's commands see it: what cannot be read or written is a user's mistake, not ours. */
import { readFileSync, writeFileSync } from 'node:fs';
import type { ReplFiles } from '../../debug/repl/repl.js';
import { CliUsageError, shownName, systemReason } from '../errors.js';

/** Files of the disk. */
export const DISK: ReplFiles = {
  read: (path) => {
    try {
      return readFileSync(path, 'utf8');
    } catch (cause) {
      const message = `${shownName(path)}: cannot be read: ${systemReason(cause)}`;
      throw new CliUsageError('FILE_UNREADABLE', message, { file: path }, { cause });
    }
  },
  write: (path, text) => {
    try {
      writeFileSync(path, text);
    } catch (cause) {
      const message = `${shownName(path)}: cannot be written: ${systemReason(cause)}`;
      throw new CliUsageError('FILE_UNWRITABLE', message, { file: path }, { cause });
    }
  },
};
