/**
 * Builds the engine binding with the node-gyp that npm brings: into build/, or with `--also-2.0` a second copy against
 * the distribution's libunicorn in .unicorn/, for the engine's own tests on both versions.
 *
 * Node's headers are taken from beside the node that runs, where a distribution puts them; else node-gyp downloads them.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');

/** node-gyp's own script: npm tells where it is when it runs this, else it lies beside npm. */
function nodeGyp() {
  const besideNode = resolve(dirname(process.execPath), '..', 'lib', 'node_modules', 'npm');
  const candidates = [
    process.env.npm_config_node_gyp,
    join(besideNode, 'node_modules', 'node-gyp', 'bin', 'node-gyp.js'),
  ];
  const found = candidates.find((path) => path !== undefined && existsSync(path));
  if (found === undefined) throw new Error('node-gyp is not there: run this through npm');
  return found;
}

function build(folder, env) {
  const args = [nodeGyp(), 'rebuild', '--loglevel=error'];
  const prefix = resolve(dirname(process.execPath), '..');
  if (existsSync(join(prefix, 'include', 'node', 'node.h'))) args.push(`--nodedir=${prefix}`);
  const run = spawnSync(process.execPath, args, {
    cwd: folder,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
    encoding: 'utf8',
  });
  if (run.status !== 0) {
    process.stderr.write(run.stdout ?? '');
    process.exit(run.status ?? 1);
  }
}

if (process.argv.includes('--also-2.0')) {
  const second = join(root, '.unicorn', 'engine-2.0');
  rmSync(second, { recursive: true, force: true });
  mkdirSync(second, { recursive: true });
  for (const name of ['binding.gyp', 'package.json', 'emulator', 'node_modules']) {
    symlinkSync(join(root, name), join(second, name));
  }
  build(second, { UNICORN_PREFIX: process.env.UNICORN_2_0_PREFIX ?? '/usr' });
} else {
  build(root, {});
}
