/** The reference payload, built on first use: tests that run it need the real file. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const root = new URL('../..', import.meta.url).pathname;
const file = join(root, 'caretaker-payload', 'build', 'caretaker.elf');
let bytes: Uint8Array | undefined;

/** The bytes of caretaker.elf as gcc builds it. */
export function referencePayload(): Uint8Array {
  if (bytes === undefined) {
    if (!existsSync(file)) {
      execFileSync('make', ['-C', join(root, 'caretaker-payload'), '-f', 'build.mk'], {
        stdio: 'ignore',
      });
    }
    // A plain array: slice() of a Buffer would share its bytes.
    bytes = new Uint8Array(readFileSync(file));
  }
  return bytes;
}
