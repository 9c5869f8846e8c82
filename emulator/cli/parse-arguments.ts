/**
 * Holds a command line against a command's tables, with yargs, and renders its --help.
 *
 * Invariant: what comes back has exactly the keys of the tables, with values of the declared types; anything else is
 * a CliUsageError that names the option and, where there is one, the nearest right spelling.
 */
import yargs from 'yargs';
import type { Argv, Options } from 'yargs';
import { didYouMean } from '../../abi/did-you-mean.js';
import { GLOBAL_OPTIONS } from './command.js';
import type { Command, CommandOption } from './command.js';
import { CliUsageError } from './errors.js';

type Parsed = Readonly<Record<string, unknown>>;

function parserOf(title: string, describe: string, command: Command, columns: number): Argv {
  const parser = yargs()
    .scriptName(title)
    .locale('en')
    .help(false)
    .version(false)
    .exitProcess(false)
    .fail(false)
    .wrap(columns)
    .parserConfiguration({
      'camel-case-expansion': false,
      'strip-dashed': false,
      // Without it yargs keeps only the last of `[payload..]`; valueOf() undoes it for options.
      'duplicate-arguments-array': true,
      'parse-positional-numbers': false,
    })
    .command(`$0 ${command.usage}`.trimEnd(), describe, (builder) => {
      for (const [name, positional] of Object.entries(command.positionals)) {
        builder.positional(name, positional);
      }
      return builder;
    })
    .options(optionsOf(command))
    .option('help', { type: 'boolean', describe: 'Show this help' });
  return parser;
}

function optionsOf(command: Command): Record<string, Options> {
  const all: Record<string, Options> = { ...command.options, ...GLOBAL_OPTIONS };
  return Object.fromEntries(
    Object.entries(all).map(([name, option]) => [
      name,
      option.type === 'boolean' ? option : { ...option, requiresArg: true },
    ]),
  );
}

/** The text of `title --help`. */
export async function helpText(
  title: string,
  describe: string,
  command: Command,
  columns: number,
): Promise<string> {
  const help = await parserOf(title, describe, command, columns).getHelp();
  // Not yargs' own, which wraps the lines that are there to be copied.
  const examples = command.examples.map(([line, what]) => `  ${line}\n      ${what}`);
  return [help.trimEnd(), '', 'Examples:', ...examples].join('\n');
}

/** @throws CliUsageError when the line does not fit the tables. */
export async function parseArguments(
  title: string,
  command: Command,
  words: readonly string[],
): Promise<Parsed> {
  const usage = (code: CliUsageError['code'], message: string, cause?: unknown): CliUsageError =>
    new CliUsageError(code, message, { command: title }, { cause });
  const options: Record<string, CommandOption> = { ...command.options, ...GLOBAL_OPTIONS };
  for (const [name, { type }] of Object.entries(options)) {
    if (type !== 'boolean' || !words.some((word) => word.startsWith(`--${name}=`))) continue;
    throw usage('BAD_VALUE', `--${name}: takes no value`);
  }
  let parsed: Record<string, unknown>;
  try {
    const parser = parserOf(title, '', command, 80);
    // As text: yargs takes the empty one for 0.
    parsed = await parser.string(numbersOf(options)).parseAsync([...words]);
  } catch (error) {
    if (!(error instanceof Error) || !['Error', 'YError'].includes(error.name)) throw error;
    const message = error.message.replaceAll(/\s+/g, ' ').trim();
    const [, given] = /^Not enough non-option arguments: got (\d+)/.exec(message) ?? [];
    if (given !== undefined) {
      const missing = Object.keys(command.positionals)[Number(given)] ?? 'an argument';
      throw usage('MISSING_ARGUMENT', `<${missing}> is missing`, error);
    }
    const [, bare] = /^Not enough arguments following: (\S+)$/.exec(message) ?? [];
    throw usage('BAD_VALUE', bare === undefined ? message : `--${bare}: a value is missing`, error);
  }
  const extra = parsed['_'];
  for (const own of ['_', '$0', 'help']) Reflect.deleteProperty(parsed, own);
  for (const [name, { type, array }] of Object.entries(options)) {
    if (type === 'boolean' || array === true || !Array.isArray(parsed[name])) continue;
    throw usage('BAD_VALUE', `--${name}: given more than once`);
  }
  const values: Parsed = Object.fromEntries(
    Object.entries(parsed).map(([name, value]) => [name, valueOf(options[name], value)]),
  );
  for (const name of Object.keys(values)) {
    if (name in command.positionals || name in options) continue;
    const dashed = (option: string): string => `--${option}`;
    const suggestion = didYouMean(dashed(name), [...Object.keys(options), 'help'].map(dashed));
    throw usage('UNKNOWN_OPTION', `unknown option --${name}${suggestion}`);
  }
  if (Array.isArray(extra) && extra.length > 0) {
    throw usage('UNEXPECTED_ARGUMENT', `unexpected argument "${String(extra[0])}"`);
  }
  for (const [name, option] of Object.entries(options)) {
    const problem = problemOf(option, values[name]);
    if (problem !== null) throw usage('BAD_VALUE', `--${name}: ${problem}`);
  }
  return values;
}

const numbersOf = (options: Readonly<Record<string, CommandOption>>): string[] =>
  Object.keys(options).filter((name) => options[name]!.type === 'number');

/** A flag given twice is still one flag; a number is read here. */
function valueOf(option: CommandOption | undefined, value: unknown): unknown {
  if (option?.type === 'boolean' && Array.isArray(value)) return value.at(-1);
  if (option?.type !== 'number' || typeof value !== 'string') return value;
  return value.trim() === '' ? NaN : Number(value);
}

function problemOf(
  { type, minimum = 0, maximum = Infinity }: CommandOption,
  value: unknown,
): string | null {
  if (value === undefined || type !== 'number') return null;
  const isWanted =
    Number.isSafeInteger(value) && Number(value) >= minimum && Number(value) <= maximum;
  const end = maximum === Infinity ? '' : ` to ${maximum}`;
  return isWanted ? null : `a whole number from ${minimum}${end} is wanted`;
}
