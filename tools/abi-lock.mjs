// Writes abi/layout.lock.json from the contract; refuses a layout change without a version change.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { currentLock, lockViolations } from '../dist/abi/lock.js';

const file = new URL('../abi/layout.lock.json', import.meta.url);
const next = currentLock();
const violations = existsSync(file)
  ? lockViolations(JSON.parse(readFileSync(file, 'utf8')), next)
  : [];
for (const violation of violations) console.error(`abi-lock: ${violation}`);
if (violations.length > 0) {
  console.error('abi-lock: not written; raise the version of each structure named above');
  process.exit(1);
}
writeFileSync(file, `${JSON.stringify(next, null, 2)}\n`);
