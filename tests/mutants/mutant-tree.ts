/**
 * A copy of the reference payload in which one mutant after the other is built: patch, make, read, put back.
 *
 * Source: caretaker-payload/build.mk; tests/mutants/patches/, unified diffs against caretaker-payload/.
 * Invariant: objects that a patch does not touch are never compiled again; nothing is written into the checkout.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, readdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { GCC, PayloadTree } from '../payload/payload-tree.js';

const PATCHES = join(dirname(fileURLToPath(import.meta.url)), 'patches');

/** Names of all patches, without their suffix. */
export function patchNames(): readonly string[] {
  return readdirSync(PATCHES).map((file) => basename(file, '.patch'));
}

export class MutantTree {
  readonly #tree = new PayloadTree('mutants-');
  readonly #payload: string;
  readonly #pristine: string;
  /** The reference payload, built from the unpatched copy. */
  readonly reference: Uint8Array;

  constructor() {
    this.#payload = join(this.#tree.path, 'caretaker-payload');
    this.#pristine = join(this.#tree.path, 'pristine');
    const built = this.#tree.build(GCC);
    if (!built.ok) throw new Error(built.stderr);
    this.reference = this.#tree.product('caretaker.elf');
    cpSync(this.#payload, this.#pristine, { recursive: true, preserveTimestamps: true });
  }

  /** The payload with a patch applied. */
  build(name: string): Uint8Array {
    try {
      this.#run('git', ['apply', '--whitespace=nowarn', join(PATCHES, `${name}.patch`)]);
      const { cc, ld } = GCC;
      this.#run('make', ['-s', '-f', 'build.mk', `CC=${cc}`, `LD=${ld}`, 'build/caretaker.elf']);
      return this.#tree.product('caretaker.elf');
    } finally {
      cpSync(this.#pristine, this.#payload, { recursive: true, preserveTimestamps: true });
    }
  }

  remove(): void {
    this.#tree.remove();
  }

  /** git looks for a repository above; the copy has none and must not find the checkout's. */
  #run(program: string, options: readonly string[]): void {
    execFileSync(program, [...options], {
      cwd: this.#payload,
      env: { ...process.env, LC_ALL: 'C', GIT_CEILING_DIRECTORIES: this.#tree.path },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
  }
}
