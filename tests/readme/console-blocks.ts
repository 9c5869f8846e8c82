/**
 * The ```console blocks of a Markdown text: commands after `$ `, what they print, and how that is compared.
 *
 * After `console` a block may say: `verify` (the output must match, densities and most numbers apart: see STEADY), `exact` (numbers too), `status=N`
 * (the last command's exit status, 0 unless said), `not-run` (shown only). In expected output a line `...` stands for
 * any lines, `{*}` for any text in a line, and a run of spaces for any other. `make golden` rewrites what stands before and
 * after a single `...`.
 */

/** One command of a block and the output shown under it. */
export interface ConsoleCommand {
  readonly line: number;
  readonly command: string;
  readonly output: readonly string[];
}

/** A block of commands that run one after the other in one shell's surroundings. */
export interface ConsoleBlock {
  readonly isRun: boolean;
  /** How the output is compared, if at all. */
  readonly comparison: 'none' | 'loose' | 'exact';
  readonly status: number;
  readonly commands: readonly ConsoleCommand[];
}

/** All console blocks of a text; throws on a word after `console` that means nothing. */
export function consoleBlocks(markdown: string): ConsoleBlock[] {
  const lines = markdown.split('\n');
  const blocks: ConsoleBlock[] = [];
  for (let i = 0; i < lines.length; i++) {
    const [, info] = /^```console\b(.*)$/.exec(lines[i]!) ?? [];
    if (info === undefined) continue;
    const end = lines.indexOf('```', i);
    if (end === -1) throw new Error(`line ${i + 1}: the block never ends`);
    blocks.push(blockOf(info, lines.slice(i + 1, end), i + 2));
    i = end;
  }
  return blocks;
}

function blockOf(info: string, lines: readonly string[], firstLine: number): ConsoleBlock {
  const words = info.split(/\s+/).filter(Boolean);
  const status = words.find((word) => word.startsWith('status='))?.slice('status='.length) ?? '0';
  const unknown = words.filter((word) => !/^(verify|exact|not-run|status=[0-3])$/.test(word));
  if (unknown.length > 0) throw new Error(`line ${firstLine - 1}: ${unknown.join(' ')}?`);
  const commands: { line: number; command: string; output: string[] }[] = [];
  lines.forEach((text, index) => {
    if (text.startsWith('$ ')) {
      commands.push({ line: firstLine + index, command: text.slice(2), output: [] });
    } else {
      const last = commands.at(-1);
      if (last === undefined) throw new Error(`line ${firstLine + index}: output before a command`);
      last.output.push(text);
    }
  });
  return {
    isRun: !words.includes('not-run'),
    comparison: words.includes('exact') ? 'exact' : words.includes('verify') ? 'loose' : 'none',
    status: Number(status),
    commands,
  };
}

const NUMBER = '-?[0-9][0-9,]*(?:\\.[0-9]+)?';
const HEX = '0x[0-9a-f]+';
/** Columns of a lane: how dense they are depends on the compiler that built the payload. */
const DENSITY = '[▁▂▃▄▅▆▇█░▒▓·━─┬]+';

/** Numbers that depend on neither the compiler of the payload nor the load of the machine, with the words that tell. */
const STEADY = 'seed \\d+|gap of [0-9.]+ s|\\d+ (?:vCPUs?|invariants|findings?)\\b';

const literal = (text: string): string => text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');

function lineMatches(shown: string, printed: string, isExact: boolean): boolean {
  const holes = isExact
    ? /(\{\*\}| +)/
    : new RegExp(`(${STEADY}|\\{\\*\\}| +|${DENSITY}|${HEX}|\\b[0-9a-f]{12}\\b|${NUMBER})`);
  const source = shown
    .trimStart()
    .split(holes)
    .map((part, index) => (index % 2 === 0 ? literal(part) : patternOf(part)))
    .join('');
  return new RegExp(`^ *${source}$`).test(printed);
}

function patternOf(part: string): string {
  if (part === '{*}') return '.*';
  if (new RegExp(`^(?:${STEADY})$`).test(part)) return literal(part);
  if (part.startsWith(' ')) return ' +';
  if (part.startsWith('0x')) return HEX;
  if (/^[0-9a-f]{12}$/.test(part)) return '[0-9a-f]{12}';
  return new RegExp(`^${DENSITY}$`).test(part) ? DENSITY : NUMBER;
}

/** Whether what was printed is what is shown; numbers may differ unless `isExact`. */
export function outputMatches(
  shown: readonly string[],
  printed: readonly string[],
  isExact = false,
): boolean {
  const [pattern, ...others] = shown;
  if (pattern === undefined) return printed.length === 0;
  if (pattern === '...') {
    return Array.from({ length: printed.length + 1 }, (_, skip) => printed.slice(skip)).some(
      (rest) => outputMatches(others, rest, isExact),
    );
  }
  const [line, ...rest] = printed;
  return (
    line !== undefined &&
    lineMatches(pattern, line, isExact) &&
    outputMatches(others, rest, isExact)
  );
}

/** What is shown, brought up to date: as many lines as before in front of a single `...`, and behind it. */
export function refreshed(shown: readonly string[], printed: readonly string[]): readonly string[] {
  const cut = shown.indexOf('...');
  if (cut === -1) return printed;
  const behind = shown.length - cut - 1;
  return [...printed.slice(0, cut), '...', ...(behind === 0 ? [] : printed.slice(-behind))];
}
