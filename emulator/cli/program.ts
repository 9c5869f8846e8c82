/**
 * The program as a function: words in, exit status out, everything written through a Terminal.
 *
 * Source: CLI. `--version`, `--help` and a wrong command are answered without loading yargs or any command.
 * Invariant: nothing is thrown; with --json a refusal is one JSON document on stdout.
 */
import { didYouMean } from '../../abi/did-you-mean.js';
import type { CommandEntry } from './command.js';
import { CliUsageError, visible } from './errors.js';
import { EXIT, refusalOf } from './exit-status.js';
import type { ExitStatus } from './exit-status.js';
import { jsonText } from './output/json.js';
import type { Terminal } from './output/terminal.js';
import { programVersion, unicornVersion } from './version.js';

const NAME = 'caretaker-emu';

/** Runs one command line. */
export async function runProgram(
  words: readonly string[],
  commands: readonly CommandEntry[],
  terminal: Terminal,
): Promise<ExitStatus> {
  const isJson = words.includes('--json');
  try {
    return await dispatch(words, commands, terminal);
  } catch (error) {
    return refuse(error, isJson, terminal);
  }
}

/** Tells a user of an error and returns the exit status that it stands for. */
export function refuse(error: unknown, isJson: boolean, terminal: Terminal): ExitStatus {
  terminal.progress('');
  const { status, code, message, file, offset, hint } = refusalOf(error);
  if (isJson) {
    terminal.print(jsonText({ error: { code, message, file, offset } }));
    return status;
  }
  const place = file === null || message.includes(file) ? '' : `${file}: `;
  terminal.note(`${NAME}: ${visible(place + message)}`);
  if (hint !== null) terminal.note(hint);
  if (status === EXIT.BUG) terminal.note('this is a bug in caretaker-emu: please report it');
  return status;
}

async function dispatch(
  words: readonly string[],
  commands: readonly CommandEntry[],
  terminal: Terminal,
): Promise<ExitStatus> {
  const first = words.findIndex((word, i) => !word.startsWith('-') && words[i - 1] !== '--seed');
  if (first === -1) return await withoutCommand(words, commands, terminal);
  const named = words.slice(first);
  if (named[0] === 'help') {
    return await dispatch([...named.slice(1), '--help'], commands, terminal);
  }
  const entry = commands.find(({ name }) => name.split(' ').every((part, i) => named[i] === part));
  const family = commands.filter(({ name }) => name.startsWith(`${named[0]!} `));
  if (entry === undefined && family.length > 0 && isHelp(named[1])) {
    terminal.print(await overview(family, terminal.columns));
    return EXIT.OK;
  }
  if (entry === undefined) throw unknownCommand(named, commands);
  const rest = [...words.slice(0, first), ...named.slice(entry.name.split(' ').length)];
  return await runCommand(entry, rest, terminal);
}

async function runCommand(
  entry: CommandEntry,
  words: readonly string[],
  terminal: Terminal,
): Promise<ExitStatus> {
  const [command, parser] = await Promise.all([entry.load(), import('./parse-arguments.js')]);
  const title = `${NAME} ${entry.name}`;
  if (words.some(isHelp)) {
    terminal.print(await parser.helpText(title, entry.describe, command, terminal.columns));
    return EXIT.OK;
  }
  return await command.run(await parser.parseArguments(title, command, words), terminal);
}

async function withoutCommand(
  words: readonly string[],
  commands: readonly CommandEntry[],
  terminal: Terminal,
): Promise<ExitStatus> {
  if (words.includes('--version')) return await printVersion(words.includes('--json'), terminal);
  if (words.some(isHelp)) {
    terminal.print(await overview(commands, terminal.columns));
    return EXIT.OK;
  }
  if (words.at(-1) === '--seed') {
    throw new CliUsageError('BAD_VALUE', '--seed: a value is missing', { command: NAME });
  }
  const wrong = words.find((word, i) => {
    return !/^--(json|seed(=.*)?)$/.test(word) && words[i - 1] !== '--seed';
  });
  if (wrong !== undefined) {
    const suggestion = didYouMean(wrong, ['--help', '--version', '--json']);
    throw new CliUsageError('UNKNOWN_OPTION', `unknown option ${wrong}${suggestion}`, {
      command: NAME,
    });
  }
  throw new CliUsageError('MISSING_COMMAND', 'a command is missing', { command: NAME });
}

function unknownCommand(
  named: readonly string[],
  commands: readonly CommandEntry[],
): CliUsageError {
  const [word = '', next = ''] = named;
  const details = { command: NAME };
  const family = commands.map(({ name }) => name).filter((name) => name.startsWith(`${word} `));
  if (family.length > 0) {
    const isBare = next === '' || next.startsWith('-');
    const what = isBare ? `${word}: a command is missing` : `unknown command "${word} ${next}"`;
    const near = didYouMean(`${word} ${next}`, family) || `; there are: ${family.join(', ')}`;
    return new CliUsageError(isBare ? 'MISSING_COMMAND' : 'UNKNOWN_COMMAND', what + near, details);
  }
  const first = new Set(commands.flatMap(({ name }) => [name, name.split(' ')[0]!]));
  const suggestion = didYouMean(word, [...first, 'help']);
  return new CliUsageError('UNKNOWN_COMMAND', `unknown command "${word}"${suggestion}`, details);
}

const isHelp = (word: string | undefined): boolean => word === '--help' || word === '-h';

async function overview(commands: readonly CommandEntry[], width: number): Promise<string> {
  const { columnsOf } = await import('./output/table.js');
  const rows = commands.map(({ name, describe }) => [`  ${name}`, describe]);
  return [
    `${NAME}: a Caretaker payload, step by step, through a kernel live update`,
    '',
    `usage: ${NAME} COMMAND [payload] [options]`,
    '',
    columnsOf(rows, width),
    '',
    'options of every command:',
    columnsOf(
      [
        ['  --json', 'one JSON document on stdout, nothing else'],
        ['  --seed N', 'seed of everything that is drawn'],
        ['  --help', 'what a command takes, with examples'],
      ],
      width,
    ),
    '',
    `${NAME} --version names the libunicorn in use.`,
    'Exit status: 0 fine, 1 a finding, 2 bad usage or bad input, 3 a bug of ours.',
  ].join('\n');
}

async function printVersion(isJson: boolean, terminal: Terminal): Promise<ExitStatus> {
  const [version, unicorn] = [programVersion(), await unicornVersion()];
  terminal.print(
    isJson ? jsonText({ version, unicorn }) : `${NAME} ${version} (unicorn ${unicorn})`,
  );
  return EXIT.OK;
}
