/**
 * Copies of the payload's sources, built beside the tree: where a test builds, and where it plants a breach.
 *
 * Source: caretaker-payload/build.mk.
 * Invariant: nothing is written into the checkout.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

/** A compiler and the linker that goes with it. */
export interface Toolchain {
  readonly cc: string;
  readonly ld: string;
}

export const GCC: Toolchain = { cc: 'gcc', ld: 'ld' };
export const CLANG: Toolchain = { cc: 'clang', ld: 'ld.lld' };

/** Whether both programs of a toolchain are installed. */
export function isInstalled({ cc, ld }: Toolchain): boolean {
  return [cc, ld].every((tool) => spawnSync(tool, ['--version']).status === 0);
}

/** What make said; `ok` when it ended with status 0. */
export interface BuildResult {
  readonly ok: boolean;
  readonly stderr: string;
}

/** One copy of caretaker-payload/ and abi/include/. */
export class PayloadTree {
  readonly #base: string;

  /** `prefix` lets two trees lie at paths of different lengths. */
  constructor(prefix = 'payload-') {
    this.#base = mkdtempSync(join(tmpdir(), prefix));
    cpSync(join(ROOT, 'abi', 'include'), join(this.#base, 'abi', 'include'), { recursive: true });
    cpSync(join(ROOT, 'caretaker-payload'), join(this.#base, 'caretaker-payload'), {
      recursive: true,
      filter: (source) => source !== join(ROOT, 'caretaker-payload', 'build'),
    });
  }

  get path(): string {
    return this.#base;
  }

  source(name: string): string {
    return readFileSync(join(this.#base, 'caretaker-payload', name), 'utf8');
  }

  /** Replaces a text that must be there. */
  plant(name: string, from: string, to: string): void {
    const before = this.source(name);
    if (!before.includes(from)) throw new Error(`${name} has no ${JSON.stringify(from)}`);
    writeFileSync(
      join(this.#base, 'caretaker-payload', name),
      before.replace(from, () => to),
    );
  }

  build({ cc, ld }: Toolchain, directory = 'build'): BuildResult {
    const made = spawnSync(
      'make',
      [
        '-C',
        'caretaker-payload',
        '-f',
        'build.mk',
        '-j2',
        `CC=${cc}`,
        `LD=${ld}`,
        `O=${directory}`,
      ],
      { cwd: this.#base, encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' } },
    );
    return { ok: made.status === 0, stderr: made.stderr };
  }

  product(name: string, directory = 'build'): Buffer {
    return readFileSync(join(this.#base, 'caretaker-payload', directory, name));
  }

  readelf(...options: string[]): string {
    return execFileSync(
      'readelf',
      ['--wide', ...options, 'caretaker-payload/build/caretaker.elf'],
      {
        cwd: this.#base,
        encoding: 'utf8',
        maxBuffer: 1 << 26,
      },
    );
  }

  remove(): void {
    rmSync(this.#base, { recursive: true, force: true });
  }
}
