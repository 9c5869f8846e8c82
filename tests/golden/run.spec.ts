/**
 * The page of a run as people see it, by width and by characters. Numbers are masked and lanes reduced to what kind of
 * column follows what: both depend on the compiler that built the payload.
 */
import { describe, it } from 'vitest';
import { COMMANDS } from '../../emulator/cli/commands.js';
import { runProgram } from '../../emulator/cli/program.js';
import { terminalOf } from '../../emulator/cli/output/terminal.js';
import { expectGolden } from '../support/golden.js';

const scenario = new URL('moment.yaml', import.meta.url).pathname;

async function page(columns: number, locale: string): Promise<string> {
  let text = '';
  const stdout = { isTTY: true, columns, write: (part: string) => void (text += part) };
  const environment = { LC_ALL: locale, NO_COLOR: '1' };
  const terminal = terminalOf(stdout, { write: () => undefined }, environment);
  await runProgram(['run', '--scenario', scenario], COMMANDS, terminal);
  return masked(text);
}

/** Numbers as `#`, runs of spaces as one, neighbouring signs of one kind as one. */
function masked(text: string): string {
  return text
    .replaceAll(/payload [0-9a-f]{12}/g, 'payload #')
    .replaceAll(/0x[0-9a-f]+/g, 'x#')
    .split('\n')
    .map((line) => (/^(vCPU \d+|host) +[│|]/.test(line) ? laneOf(line) : numbersOf(line)))
    .join('\n');
}

const numbersOf = (line: string): string =>
  /^ +[├|][─┬┼┤'+|-]+$/.test(line)
    ? line.replaceAll(/[─┬'-]+/g, '-').replaceAll(/ +/g, ' ')
    : line
        .replaceAll(/(?<![a-z])[0-9][0-9,.]*/gi, '#')
        .replaceAll(/ +/g, ' ')
        .replace(/^ [# s]+$/, ' # s');

/** Densities vary; who answered, and where a vCPU waits, does not. */
const laneOf = (line: string): string =>
  line
    .replaceAll(/[▁▂▃▄▅▆▇█░▒▓·]+/g, '▄')
    .replaceAll(/(?<=\|.*)[,:;=o%@.]+/g, '=')
    .replaceAll(/([━~])+/g, '$1')
    .replaceAll(/ +/g, ' ');

describe('the page of a run', () => {
  it.each([
    ['80 columns', 80, 'C.UTF-8', 'run-80.txt'],
    ['200 columns', 200, 'C.UTF-8', 'run-200.txt'],
    ['80 columns of ASCII', 80, 'C', 'run-80-ascii.txt'],
  ])('on %s', async (_title, columns, locale, name) => {
    expectGolden(name, await page(columns, locale));
  });
});
