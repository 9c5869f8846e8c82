/** Every command that the README shows is run; every transcript marked `verify` is compared; every folder is named. */
import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { consoleBlocks, outputMatches, refreshed } from './console-blocks.js';
import type { ConsoleBlock } from './console-blocks.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const blocks = consoleBlocks(readme).filter(({ isRun }) => isRun);
const titled = blocks.map((block) => ({
  block,
  title: block.commands.map((c) => c.command).join('; '),
}));

function linesOf(text: string): string[] {
  const trimmed = text.replace(/\n+$/, '');
  return trimmed === '' ? [] : trimmed.split('\n').map((line) => line.trimEnd());
}

/** Replaces a transcript in the README; several in one run add up. */
function rewrite(shown: readonly string[], now: readonly string[]): void {
  const file = join(root, 'README.md');
  const text = readFileSync(file, 'utf8');
  writeFileSync(
    file,
    text.replace(shown.join('\n'), () => now.join('\n')),
  );
}

function check({ commands, comparison, status: wanted }: ConsoleBlock): void {
  commands.forEach(({ line, command, output }, index) => {
    const { stdout, status } = spawnSync('bash', ['-c', `exec 2>&1; ${command}`], {
      cwd: root,
      encoding: 'utf8',
      input: '',
      env: { ...process.env, LC_ALL: 'C.UTF-8', NO_COLOR: '1' },
    });
    const isLast = index === commands.length - 1;
    expect(status, `README.md:${line}: exit status of ${command}\n${stdout}`).toBe(
      isLast ? wanted : 0,
    );
    if (comparison === 'none') return;
    const [shown, printed] = [linesOf(output.join('\n')), linesOf(stdout)];
    // The comparison that knows what may differ decides; the other one shows the difference.
    if (outputMatches(shown, printed, comparison === 'exact')) return;
    if (process.env['UPDATE_GOLDEN'] === '1') rewrite(shown, refreshed(shown, printed));
    else expect(printed, `README.md:${line}: ${command}; accept with: make golden`).toEqual(shown);
  });
}

describe('README', () => {
  it.each(titled)('$title', ({ block }) => check(block), 300_000);

  it('names every folder of the sources', () => {
    const folders = ['', 'emulator/'].flatMap((parent) =>
      readdirSync(join(root, parent), { withFileTypes: true })
        .filter((entry) => entry.isDirectory() && /^[a-z]/.test(entry.name))
        .map((entry) => `${parent}${entry.name}`),
    );
    const built = ['node_modules', 'dist', 'build', 'coverage'];
    const missing = folders.filter(
      (folder) => !built.includes(folder) && !readme.includes(`\`${folder}/\``),
    );
    expect(missing).toEqual([]);
  });

  it('names only make targets that exist', () => {
    const makefile = readFileSync(join(root, 'Makefile'), 'utf8');
    const targets = [...readme.matchAll(/(?:^|`)make ([a-z-]+)/gm)].map((match) => match[1]!);
    const known = targets.filter((target) => new RegExp(`^${target}:`, 'm').test(makefile));
    expect(known).toEqual(targets);
  });
});
