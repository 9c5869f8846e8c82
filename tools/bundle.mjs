/**
 * Bundles what tsc compiled, and the libraries that a run parses files with, into a few files: node then starts a
 * command with a tenth of the modules to find, read and link.
 *
 * Invariant: the bundle is a copy of dist/ and nothing depends on it: bin/caretaker-emu starts dist/ itself when there is
 * no bundle or when it is older.
 */
import { rolldown } from 'rolldown';

/** Libraries that load files from beside their own, or gain nothing. */
const LEFT_ALONE = [/^yargs/, 'capstone-wasm', 'cli-table3', 'elfy'];

const bundle = await rolldown({
  input: {
    main: 'dist/emulator/cli/main.js',
    // Started by their paths, as workers.
    'session-worker': 'dist/emulator/gdb/session-worker.js',
    'dap-worker': 'dist/emulator/dap/dap-worker.js',
  },
  platform: 'node',
  external: LEFT_ALONE,
  logLevel: 'warn',
});
await bundle.write({ dir: 'dist/bundle', format: 'esm', entryFileNames: '[name].js' });
await bundle.close();
