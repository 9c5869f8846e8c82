/** The frame of the command line, with commands made for the purpose. */
import { describe, expect, it } from 'vitest';
import { HarnessBug, HarnessError } from '../../abi/errors.js';
import { defineCommand } from '../../emulator/cli/command.js';
import type { Command, CommandEntry } from '../../emulator/cli/command.js';
import { RefusedFileError } from '../../emulator/cli/errors.js';
import { EXIT } from '../../emulator/cli/exit-status.js';
import { jsonText } from '../../emulator/cli/output/json.js';
import { LoaderError } from '../../loader/errors.js';
import { runWith } from './buffers.js';
import type { Outcome } from './buffers.js';

const echo = defineCommand({
  usage: '[payload]',
  positionals: { payload: { type: 'string', describe: 'The ELF file' } },
  options: {
    depth: { type: 'number', describe: 'How deep' },
    rounds: { type: 'number', minimum: 1, describe: 'How often' },
    tso: { type: 'boolean' },
  },
  examples: [['caretaker-emu echo --depth 2', 'says two']],
  run: (args, terminal) => {
    terminal.print(
      jsonText({ payload: args.payload, depth: args.depth, tso: args.tso, seed: args.seed }),
    );
    return EXIT.OK;
  },
});

const failing = (error: unknown): Command =>
  defineCommand({
    usage: '',
    positionals: {},
    options: {},
    examples: [],
    run: () => {
      throw error;
    },
  });

const entry = (name: string, command: Command): CommandEntry => ({
  name,
  describe: `does ${name}`,
  load: () => Promise.resolve(command),
});

const refusal = new LoaderError('SEGMENT_W_AND_X', 'segment 2: flags RWX', {
  rule: 'r',
  offset: 64,
});
const missing = Object.assign(new Error("ENOENT: no such file, open 'gone.elf'"), {
  code: 'ENOENT',
  syscall: 'open',
  path: 'gone.elf',
});

const unknownScenario = new HarnessError('SCENARIO_UNKNOWN', 'no scenario is named live-updaet', {
  name: 'live-updaet',
  known: ['live-update', 'idle'],
});

const commands: readonly CommandEntry[] = [
  entry('echo', echo),
  entry('abi check', echo),
  entry('abi diff', echo),
  entry('finding', failing(RefusedFileError.of('bad.elf', refusal))),
  entry('input', failing(missing)),
  entry('scenario', failing(unknownScenario)),
  entry('bug', failing(new HarnessBug('the impossible'))),
];

const run = (...words: string[]): Promise<Outcome> => runWith(commands, ...words);

describe('exit status', () => {
  it.each([
    ['0 when the command says so', 'echo', 0],
    ['0 for --help', 'echo --help', 0],
    ['0 for the list of commands', '--help', 0],
    ['1 for a refused payload', 'finding', 1],
    ['2 for input that cannot be read', 'input', 2],
    ['2 for a name that the program does not know', 'scenario', 2],
    ['2 when a command is missing', '', 2],
    ['2 for an unknown command', 'ehco', 2],
    ['2 for an unknown option', 'echo --depht 2', 2],
    ['2 for an argument too many', 'echo a.elf b.elf', 2],
    ['2 for a value that is no number', 'echo --depth two', 2],
    ['2 for a negative seed', 'echo --seed=-1', 2],
    ['2 for a missing value', 'echo --depth', 2],
    ['3 for our own bug', 'bug', 3],
  ])('is %s', async (_title, line, status) => {
    expect((await run(...line.split(' ').filter(Boolean))).status).toBe(status);
  });
});

const SEEDS = 'a whole number from 0 to 4294967295 is wanted';

describe('arguments', () => {
  it('reach the command typed, wherever the options stand', async () => {
    const wanted = { payload: '42', depth: 3, tso: true, seed: 7 };
    for (const line of ['--seed 7 echo 42 --depth 3 --tso', 'echo --tso --depth=3 42 --seed 7']) {
      const { stdout } = await run(...line.split(' '));
      expect(JSON.parse(stdout)).toEqual(wanted);
    }
  });

  it.each([
    ['an option given twice', 'echo --depth 1 --depth 2', '--depth: given more than once'],
    ['one given before and after', '--seed 1 echo --seed 2', '--seed: given more than once'],
    ['no value', 'echo --seed', '--seed: a value is missing'],
    ['no value before another option', 'echo --seed --tso', '--seed: a value is missing'],
    ['no value and no command', '--seed', '--seed: a value is missing'],
    ['a word for a number', 'echo --depth x', '--depth: a whole number from 0 is wanted'],
    ['a word for a number from 1', 'echo --rounds x', '--rounds: a whole number from 1 is wanted'],
    ['a seed beyond 32 bits', 'echo --seed 4294967296', `--seed: ${SEEDS}`],
    ['no digit', 'echo --seed=', `--seed: ${SEEDS}`],
    ['a flag with a value', 'echo --json=outx', '--json: takes no value'],
    ["a flag of the command's own with one", 'echo --tso=no', '--tso: takes no value'],
    ['a number that is too small', 'echo --rounds 0', '--rounds: a whole number from 1 is wanted'],
  ])('are refused by name for %s', async (_title, line, message) => {
    const { status, stderr } = await run(...line.split(' '));
    expect(status).toBe(2);
    expect(stderr.split('\n')[0]).toBe(`caretaker-emu: ${message}`);
  });

  it('take no empty text for the number 0', async () => {
    const { status, stderr } = await run('echo', '--seed', '');
    expect(status).toBe(2);
    expect(stderr).toContain(`--seed: ${SEEDS}`);
  });

  it('are shown without what a terminal would act on', async () => {
    const { stderr } = await run('echo', 'a.elf', '\u001b[31mred');
    expect(stderr).toContain('unexpected argument "\\u001b[31mred"');
  });

  it('take a flag twice as once', async () => {
    const { status, stdout } = await run('echo', '--tso', '--tso', '--json', '--json');
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ tso: true });
  });
});

describe('did you mean', () => {
  it.each([
    ['a command', 'ehco', '"echo"'],
    ['an option', 'echo --depht 2', '"--depth"'],
    ['an option of the program', '--versoin', '"--version"'],
    ['a command of two words', 'abi chekc', '"abi check"'],
    ['any name that a model does not know', 'scenario', '"live-update"'],
  ])('is asked for %s', async (_title, line, suggestion) => {
    const { stderr } = await run(...line.split(' '));
    expect(stderr).toContain(`did you mean ${suggestion}?`);
  });

  it('is not asked when nothing is near', async () => {
    expect((await run('perambulate')).stderr).not.toContain('did you mean');
  });

  it('gives way to the list when half a command is named', async () => {
    expect((await run('abi')).stderr).toContain('abi check, abi diff');
  });
});

describe('a refusal', () => {
  it('is one line on stderr that names the file, and nothing on stdout', async () => {
    const { stdout, stderr } = await run('finding');
    expect(stdout).toBe('');
    expect(stderr).toBe('caretaker-emu: bad.elf: segment 2: flags RWX\n');
  });

  it('is one JSON document on stdout with --json, and nothing on stderr', async () => {
    const { stdout, stderr } = await run('finding', '--json');
    expect(stderr).toBe('');
    expect(JSON.parse(stdout)).toEqual({
      error: {
        code: 'SEGMENT_W_AND_X',
        message: 'segment 2: flags RWX',
        file: 'bad.elf',
        offset: 64,
      },
    });
  });

  it.each([
    [
      'a file that is not there',
      'input --json',
      { code: 'ENOENT', file: 'gone.elf', offset: null },
    ],
    ['bad usage', 'ehco --json', { code: 'UNKNOWN_COMMAND', file: null, offset: null }],
    ['a bug', 'bug --json', { code: 'BUG', file: null, offset: null }],
  ])('is JSON for %s', async (_title, line, error) => {
    expect(JSON.parse((await run(...line.split(' '))).stdout)).toMatchObject({ error });
  });

  it('of usage names the help to read', async () => {
    expect((await run('echo', '--depht')).stderr).toContain('try: caretaker-emu echo --help');
  });
});

describe('--help', () => {
  it('lists every command with its line', async () => {
    const { stdout } = await run('--help');
    for (const { name, describe: line } of commands) {
      expect(stdout).toMatch(new RegExp(`^ +${name} +${line}$`, 'm'));
    }
  });

  it.each(['echo --help', 'help echo', 'echo -h', 'echo --depth 2 --help'])(
    'of a command shows options and examples: %s',
    async (line) => {
      const { stdout, stderr } = await run(...line.split(' '));
      expect(stderr).toBe('');
      for (const part of ['[payload]', '--depth', '--seed', '--json', 'says two']) {
        expect(stdout).toContain(part);
      }
    },
  );
});
