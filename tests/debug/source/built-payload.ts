/** The reference payload as gcc and as clang build it. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isHere } from '../../loader/dwarf/tools.js';
import { referencePayload } from '../../support/reference-payload.js';

const tree = new URL('../../../caretaker-payload', import.meta.url).pathname;
let clang: Uint8Array | null | undefined;

/** The bytes of caretaker.elf; null where the compiler is not installed. */
export function builtPayload(compiler: 'gcc' | 'clang'): Uint8Array | null {
  if (compiler === 'gcc') return referencePayload();
  clang ??= isHere('clang') && isHere('ld.lld') ? build() : null;
  return clang;
}

function build(): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), 'payload-clang-'));
  try {
    const flags = ['-s', '-C', tree, '-f', 'build.mk', 'CC=clang', 'LD=ld.lld', `O=${folder}`];
    execFileSync('make', flags, { stdio: 'ignore' });
    return new Uint8Array(readFileSync(join(folder, 'caretaker.elf')));
  } finally {
    rmSync(folder, { recursive: true });
  }
}
