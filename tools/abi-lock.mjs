// Writes abi/layout.lock.json from the contract; refuses a layout change without a version change.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { currentLock, lockViolations } from '../dist/abi/lock.js';
import { LockError, readLockFile } from '../dist/abi/lock-file.js';

const file = process.argv[2] ?? new URL('../abi/layout.lock.json', import.meta.url);
const next = currentLock();

function violations() {
  if (!existsSync(file)) return [];
  try {
    return lockViolations(readLockFile(readFileSync(file, 'utf8')), next);
  } catch (error) {
    if (error instanceof LockError) return [`the lock is unreadable: ${error.message}`];
    throw error;
  }
}

const found = violations();
for (const violation of found) console.error(`abi-lock: ${violation}`);
if (found.length > 0) {
  console.error('abi-lock: not written; raise the version of each structure named above');
  process.exit(1);
}
writeFileSync(file, `${JSON.stringify(next, null, 2)}\n`);
