/**
 * Finds libunicorn for binding.gyp and make: prints the include folder, the linker's arguments or a sentence.
 *
 * Order: UNICORN_PREFIX when set; a system libunicorn of at least 2.1.2 by pkg-config; the pinned wheel, fetched once
 * into .unicorn/ (which `node-gyp clean` leaves alone); the distribution's older library, saying that it is slower.
 * Invariant: standard output holds only what was asked for, because gyp pastes it into a command line.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '..', '..', '..');
const cache = join(root, '.unicorn', 'wheel-2.1.4');
const OLDEST_FAST = [2, 1, 2];

/** The output of a command, or null when it is missing or fails. */
function output(command, args) {
  try {
    return execFileSync(command, args, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    }).trim();
  } catch {
    return null;
  }
}

function say(sentence) {
  process.stderr.write(`  UNICORN  ${sentence}\n`);
}

/** The library in a folder tree of ours or the user's: the archive where there is one, so the addon stands alone. */
function inPrefix(prefix, describe) {
  const include = join(prefix, 'include');
  if (!existsSync(join(include, 'unicorn', 'unicorn.h'))) return null;
  const multiarch = output('gcc', ['-print-multiarch']) ?? '';
  for (const folder of ['lib', join('lib', multiarch), 'lib64']) {
    const path = join(prefix, folder);
    if (!existsSync(path)) continue;
    const files = readdirSync(path);
    // A distribution's archive need not be position independent; only the wheel's is known to be.
    if (prefix === cache && files.includes('libunicorn.a')) {
      return { include, libraries: [join(path, 'libunicorn.a'), '-lpthread', '-lm'], describe };
    }
    const shared = files.find((file) => /^libunicorn(\.so|\.2\.dylib|\.dylib|\.so\.2)$/.test(file));
    if (shared !== undefined) {
      return { include, libraries: [join(path, shared), `-Wl,-rpath,${path}`], describe };
    }
    if (files.includes('libunicorn.a')) {
      return { include, libraries: [join(path, 'libunicorn.a'), '-lpthread', '-lm'], describe };
    }
  }
  return null;
}

function systemVersion() {
  return output('pkg-config', ['--modversion', 'unicorn']);
}

function isFast(version) {
  const parts = version.split('.').map((part) => Number.parseInt(part, 10));
  for (const [at, least] of OLDEST_FAST.entries()) {
    if ((parts[at] ?? 0) !== least) return (parts[at] ?? 0) > least;
  }
  return true;
}

function fromSystem(version, describe) {
  const include = output('pkg-config', ['--variable=includedir', 'unicorn']);
  const folder = output('pkg-config', ['--variable=libdir', 'unicorn']);
  if (include === null || folder === null) return null;
  return { include, libraries: [`-L${folder}`, '-lunicorn', `-Wl,-rpath,${folder}`], describe };
}

/** The pinned wheel unpacked under .unicorn/, fetched on first use; null when pip or the network is not there. */
function fromWheel() {
  if (!existsSync(join(cache, 'lib', 'libunicorn.a'))) {
    const work = `${cache}.part`;
    rmSync(work, { recursive: true, force: true });
    mkdirSync(work, { recursive: true });
    const requirements = join(here, 'unicorn-requirements.txt');
    say('fetching the pinned wheel unicorn==2.1.4');
    const pip = ['-m', 'pip', 'download', '--quiet', '--disable-pip-version-check', '--no-deps'];
    const fetched = output('python3', [
      ...pip,
      '--only-binary=:all:',
      '--require-hashes',
      '--dest',
      work,
      '--requirement',
      requirements,
    ]);
    const wheel =
      fetched === null ? undefined : readdirSync(work).find((file) => file.endsWith('.whl'));
    if (
      wheel === undefined ||
      output('python3', ['-m', 'zipfile', '-e', join(work, wheel), work]) === null
    ) {
      rmSync(work, { recursive: true, force: true });
      return null;
    }
    rmSync(cache, { recursive: true, force: true });
    renameSync(join(work, 'unicorn'), cache);
    rmSync(work, { recursive: true, force: true });
  }
  return inPrefix(cache, 'libunicorn 2.1.4 of the pinned wheel');
}

function find() {
  const prefix = process.env.UNICORN_PREFIX;
  if (prefix !== undefined && prefix !== '') {
    const found = inPrefix(prefix, `libunicorn in UNICORN_PREFIX=${prefix}`);
    if (found === null) throw new Error(`UNICORN_PREFIX=${prefix} holds no libunicorn`);
    return found;
  }
  const version = systemVersion();
  if (version !== null && isFast(version)) {
    const found = fromSystem(version, `system libunicorn ${version}`);
    if (found !== null) return found;
  }
  const wheel = fromWheel();
  if (wheel !== null) return wheel;
  if (version !== null) {
    say(
      `using the distribution's libunicorn ${version}: correct, but two to three times slower than 2.1.4`,
    );
    const found = fromSystem(version, `distribution libunicorn ${version}`);
    if (found !== null) return found;
  }
  throw new Error(
    'no libunicorn: install libunicorn-dev, or python3 with pip and a network, or set UNICORN_PREFIX',
  );
}

const found = find();
switch (process.argv[2]) {
  case '--include':
    process.stdout.write(found.include);
    break;
  case '--libraries':
    process.stdout.write(found.libraries.join('\n'));
    break;
  default:
    process.stdout.write(`${found.describe}\n`);
}
