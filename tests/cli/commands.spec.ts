/** Every command in the list: it loads, its help is complete, and its examples can be typed. */
import { describe, expect, it } from 'vitest';
import { COMMANDS } from '../../emulator/cli/commands.js';
import { parseArguments } from '../../emulator/cli/parse-arguments.js';
import { runWith } from './buffers.js';

describe('the list of commands', () => {
  it('names each command once', () => {
    const names = COMMANDS.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
  });

  it.each(COMMANDS)('$name has examples that fit its own options', async ({ name, load }) => {
    const command = await load();
    expect(command.examples.length).toBeGreaterThan(0);
    for (const [line] of command.examples) {
      const prefix = `caretaker-emu ${name}`;
      // Another program may come before it, in a pipe or with it in quotes.
      const at = line.indexOf(prefix);
      expect(at).toBeGreaterThanOrEqual(0);
      const own = line.slice(at + prefix.length).replace(/'.*$/, '');
      const words = own.split(' ').filter(Boolean);
      await expect(parseArguments(prefix, command, words)).resolves.toBeDefined();
    }
  });

  it.each(COMMANDS)(
    '$name --help shows its examples and the common options',
    async ({ name, load }) => {
      const { status, stdout } = await runWith(COMMANDS, ...name.split(' '), '--help');
      const command = await load();
      const examples = command.examples.map(([line]) => line);
      for (const part of ['--json', '--seed', ...examples]) expect(stdout).toContain(part);
      expect(status).toBe(0);
    },
  );

  it.each(COMMANDS)('$name refuses an unknown option', async ({ name }) => {
    expect((await runWith(COMMANDS, ...name.split(' '), '--no-such-option')).status).toBe(2);
  });

  it('keeps its overview within eighty columns', async () => {
    const { stdout } = await runWith(COMMANDS, '--help');
    expect(stdout.split('\n').filter((line) => line.length > 80)).toEqual([]);
  });

  it('has an overview of each family of commands', async () => {
    const { status, stdout } = await runWith(COMMANDS, 'abi', '--help');
    expect(status).toBe(0);
    expect(stdout).toMatch(/abi check .*\n\s+abi diff /);
    expect(stdout).not.toContain('explore');
  });

  it.each([
    ['replay', /^caretaker-emu: <file> is missing/],
    ['abi diff old.elf', /^caretaker-emu: <new> is missing/],
  ])('names the argument that %s wants', async (line, says) => {
    const { status, stderr } = await runWith(COMMANDS, ...line.split(' '));
    expect(status).toBe(2);
    expect(stderr).toMatch(says);
  });
});
