/** The reference payload as gcc and as clang build it, with either version of DWARF. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isHere } from '../../loader/dwarf/tools.js';
import { referencePayload } from '../../support/reference-payload.js';

const tree = new URL('../../../caretaker-payload', import.meta.url).pathname;

export type Compiler = 'gcc' | 'clang';
/** Versions of DWARF; the payload is built with the last. */
export const DWARF_VERSIONS = [4, 5] as const;
export type DwarfVersion = (typeof DWARF_VERSIONS)[number];

/** The bytes of caretaker.elf; null where the compiler is not installed. */
export function builtPayload(compiler: Compiler, dwarf: DwarfVersion = 5): Uint8Array | null {
  if (compiler === 'gcc') return dwarf === 5 ? referencePayload() : build(dwarf, 'gcc', 'ld');
  return isHere('clang') && isHere('ld.lld') ? build(dwarf, 'clang', 'ld.lld') : null;
}

function build(dwarf: DwarfVersion, compiler: string, linker: string): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), `payload-${compiler}-`));
  try {
    const elf = join(folder, 'caretaker.elf');
    const choices = [`CC=${compiler}`, `LD=${linker}`, `DWARF=${String(dwarf)}`, `O=${folder}`];
    const flags = ['-s', '-C', tree, '-f', 'build.mk', ...choices, elf];
    execFileSync('make', flags, { stdio: 'ignore' });
    return new Uint8Array(readFileSync(elf));
  } finally {
    rmSync(folder, { recursive: true });
  }
}
