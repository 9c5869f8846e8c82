/**
 * Bundles what tsc compiled, and the libraries that a run parses files with, into a few files: node then starts a
 * command with a tenth of the modules to find, read and link.
 *
 * Invariant: the bundle is a copy of dist/ and nothing depends on it: bin/caretaker-emu starts dist/ itself when there is
 * no bundle or when it is older.
 */
import { readdirSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { rolldown } from 'rolldown';

/** Libraries that load files from beside their own, or gain nothing. */
const LEFT_ALONE = [/^yargs/, 'capstone-wasm', 'cli-table3', 'elfy'];

/** Started by their paths, which in the bundle are all in one folder. From the sources: dist/ may hold what is gone. */
const workers = {};
for (const file of readdirSync('emulator', { recursive: true })) {
  if (!file.endsWith('-worker.ts')) continue;
  const path = join('dist/emulator', file.replace(/\.ts$/, '.js'));
  const name = basename(path, '.js');
  if (name in workers)
    throw new Error(`two workers are named ${name}: ${workers[name]} and ${path}`);
  workers[name] = path;
}

const bundle = await rolldown({
  input: { main: 'dist/emulator/cli/main.js', ...workers },
  platform: 'node',
  external: LEFT_ALONE,
  logLevel: 'warn',
});
// What an earlier bundle had under other names goes.
rmSync('dist/bundle', { recursive: true, force: true });
await bundle.write({ dir: 'dist/bundle', format: 'esm', entryFileNames: '[name].js' });
await bundle.close();
