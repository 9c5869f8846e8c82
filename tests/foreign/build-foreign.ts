/**
 * Builds the foreign payload: as a PIE with either toolchain, and as an ET_EXEC without relocations.
 *
 * Source: foreign.c and foreign.lds; abi/include is all they need.
 * Invariant: nothing is written into the checkout, and nothing of caretaker-payload/ is read.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Toolchain } from '../payload/payload-tree.js';

const HERE = dirname(fileURLToPath(import.meta.url));
const INCLUDE = join(HERE, '..', '..', 'abi', 'include');
/** Where the one that cannot move is linked: memory that the model's host leaves free at boot. */
const LINK_ADDRESS = '0x1400000';

// prettier-ignore
const COMPILE = [
  '-std=gnu11', '-O2', '-c', '-ffreestanding', '-nostdinc', '-fno-builtin', '-mno-red-zone', '-mgeneral-regs-only',
  '-fno-stack-protector', '-fno-asynchronous-unwind-tables', '-fno-strict-aliasing', '-fno-jump-tables',
  '-fcf-protection=none', '-Wall', '-Wextra', '-Werror',
];
// prettier-ignore
const LINK = [
  '-nostdlib', '-z', 'noexecstack', '-z', 'max-page-size=4096', '-z', 'norelro', '--build-id=none',
];

/** How it is linked. */
export type Linkage = 'ET_DYN' | 'ET_EXEC';

/** The bytes of the foreign payload. */
export function buildForeign({ cc, ld }: Toolchain, linkage: Linkage): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), 'foreign-'));
  try {
    const [object, script, elf] = ['foreign.o', 'foreign.lds', 'foreign.elf'].map((name) =>
      join(folder, name),
    ) as [string, string, string];
    writeFileSync(script, linkerScript(linkage));
    const pie = linkage === 'ET_DYN' ? ['-fpie', '-fvisibility=hidden'] : ['-fno-pie'];
    const how = linkage === 'ET_DYN' ? ['-pie', '--no-dynamic-linker'] : ['-static'];
    execFileSync(cc, [...COMPILE, ...pie, '-I', INCLUDE, '-o', object, join(HERE, 'foreign.c')]);
    execFileSync(ld, [...LINK, ...how, '-T', script, '-o', elf, object]);
    return readFileSync(elf);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** An ET_EXEC has nothing dynamic in it. */
function linkerScript(linkage: Linkage): string {
  const text = readFileSync(join(HERE, 'foreign.lds'), 'utf8');
  if (linkage === 'ET_DYN') return text.replace('BASE', '0');
  const lines = text.split('\n').filter((line) => !/\.?(dyn|hash|gnu|rela)/.test(line));
  return lines.join('\n').replace('BASE', LINK_ADDRESS);
}
