/**
 * Models with an error in them: the sources with one rule changed in memory, bundled, loaded and held against Bochs.
 *
 * Invariant: nothing outside a folder of its own is written; an image is booted once for all mutants.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { rolldown } from 'rolldown';
import { runBochs, type BochsRun } from '../../../emulator/conform/bochs.js';
import type { Boot } from '../../../emulator/conform/second-machine.js';
import { packageRoot } from '../../../emulator/machine/package-root.js';
import { changedSource, type ModelMutant } from './mutant.js';
import type { Part, PartDifference } from './parts.js';

const ROOT = packageRoot();
const ENTRY = join(ROOT, 'tests', 'conform', 'model-mutants', 'parts.ts');
const require = createRequire(import.meta.url);

/** A folder for bundles, the images that were booted, and what the models without an error differ in. */
export class MutantModels {
  readonly #folder: string;
  readonly #runs = new Map<string, BochsRun>();
  readonly #unchanged = new Map<Part, readonly PartDifference[]>();

  constructor() {
    const build = join(ROOT, 'build');
    mkdirSync(build, { recursive: true });
    this.#folder = mkdtempSync(join(build, 'model-mutants-'));
  }

  /** What a run of conform would fail for: differences that nothing explains, and known ones that are not met any more. */
  async noticed(part: Part, mutant: ModelMutant): Promise<readonly string[]> {
    const before = await this.unchanged(part);
    const now = await this.#differences(part, mutant);
    const met = new Set(now.map(({ known }) => known));
    const missing = new Set(before.map(({ known }) => known).filter((id) => !met.has(id)));
    return [
      ...now.filter(({ known }) => known === null).map(({ text }) => text),
      ...[...missing].map((id) => `${id} is not met`),
    ];
  }

  /** Where the models as they are differ from the second machine. */
  async unchanged(part: Part): Promise<readonly PartDifference[]> {
    const known = this.#unchanged.get(part) ?? (await this.#differences(part, null));
    this.#unchanged.set(part, known);
    return known;
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true });
  }

  async #differences(part: Part, mutant: ModelMutant | null): Promise<readonly PartDifference[]> {
    const name = mutant?.id ?? 'unchanged';
    const changed = mutant === null ? null : changedSource(ROOT, mutant);
    const path = mutant === null ? '' : join(ROOT, mutant.file);
    const bundle = await rolldown({
      input: { [name]: ENTRY },
      platform: 'node',
      external: [/node_modules/],
      resolve: { extensionAlias: { '.js': ['.ts', '.js'] } },
      logLevel: 'silent',
      plugins: [{ name: 'mutant', load: (id) => (id === path ? changed : null) }],
    });
    await bundle.write({ dir: this.#folder, format: 'cjs', entryFileNames: '[name].cjs' });
    await bundle.close();
    const model = require(join(this.#folder, `${name}.cjs`)) as typeof import('./parts.js');
    return model.differences(part, this.#boot);
  }

  readonly #boot: Boot = (image, options) => {
    const hash = createHash('sha256').update(image);
    const key = hash.update(JSON.stringify(options ?? {})).digest('hex');
    const run = this.#runs.get(key) ?? runBochs(image, options);
    this.#runs.set(key, run);
    return run;
  };
}
