/** Going on and going back: by line, by instruction, by call, to a place, to a position. */
import { parsePosition, type Position } from '../../position.js';
import type { Resume } from '../../resume.js';
import { parseLocation, addressesIn } from '../../source/location.js';
import { bad, countOf, nothing, type Arguments, type ReplCommand } from '../command.js';
import type { Repl } from '../repl.js';

/** A command and its reverse. */
function bothWays(
  name: string,
  short: readonly [string, string],
  usage: string,
  summary: string,
  run: (repl: Repl, args: Arguments, backwards: boolean) => Resume,
): readonly ReplCommand[] {
  const common = { usage, isRepeatable: true };
  const example = usage.includes('LOCATION') ? ' caretaker_dispatch' : usage === '' ? '' : ' 3';
  return [
    {
      ...common,
      name,
      aliases: [short[0]],
      group: 'going on',
      summary,
      example: `${name}${example}`,
      run: (repl, args) => run(repl, args, false),
    },
    {
      ...common,
      name: `reverse-${name}`,
      aliases: [short[1]],
      group: 'going back',
      summary: `${summary}, backwards`,
      example: `reverse-${name}${example}`,
      run: (repl, args) => run(repl, args, true),
    },
  ];
}

const byLine = (repl: Repl, args: Arguments, over: boolean, backwards: boolean): Resume => ({
  kind: 'step-line',
  lineOf: repl.level.lineOf,
  over,
  count: countOf(args, repl),
  backwards,
});

const PAIRS = [
  ...bothWays('step', ['s', 'rs'], '[COUNT]', 'to another line of the source', (repl, args, back) =>
    byLine(repl, args, false, back),
  ),
  ...bothWays(
    'next',
    ['n', 'rn'],
    '[COUNT]',
    'to another line of this function; calls are run over',
    (repl, args, back) => byLine(repl, args, true, back),
  ),
  ...bothWays('stepi', ['si', 'rsi'], '[COUNT]', 'one instruction', (repl, args, backwards) => ({
    kind: 'step',
    count: countOf(args, repl),
    backwards,
  })),
  ...bothWays(
    'nexti',
    ['ni', 'rni'],
    '[COUNT]',
    'one instruction; calls are run over',
    (repl, args, backwards) => ({ kind: 'next', count: countOf(args, repl), backwards }),
  ),
  ...bothWays(
    'finish',
    ['fin', 'rfin'],
    '',
    'out of this function, or to the end of the handler',
    (repl, args, backwards) => {
      nothing(args);
      return repl.level.finish(repl.session, backwards);
    },
  ),
  ...bothWays(
    'until',
    ['u', 'ru'],
    'LOCATION',
    'to a place in the payload, by whichever vCPU',
    (repl, args, backwards) => {
      const { core } = repl;
      const location = parseLocation(args.text, core);
      const addresses = repl.session.machine.lanes.flatMap((lane) => [
        ...addressesIn(location, repl.session.image.bias(lane)),
      ]);
      const isCode = (at: bigint): boolean => core.sourceOf(at)?.hasCode(at) === true;
      const [first] = addresses;
      if (first === undefined || !addresses.some(isCode))
        bad(`${args.text}: no payload has code there, so nothing would stop`);
      return { kind: 'until', addresses, backwards };
    },
  ),
  ...bothWays(
    'continue',
    ['c', 'rc'],
    '',
    'to the next breakpoint, or to the end',
    (_repl, args, backwards) => {
      nothing(args);
      return { kind: 'continue', backwards };
    },
  ),
];

const BACK_KINDS: readonly string[] = PAIRS.filter(({ group }) => group === 'going on').map(
  ({ name }) => name,
);

/** Commands that move the machine. */
export const GOING: readonly ReplCommand[] = [
  ...PAIRS.filter(({ group }) => group === 'going on'),
  {
    name: 'seek',
    aliases: ['goto'],
    group: 'going on',
    usage: 'EXIT[:INSTRUCTION] | NAME | start | end',
    summary: 'to a position, before or behind this one',
    example: 'seek 12:40',
    complete: (repl) => ['start', 'end', ...repl.session.names.keys()],
    run: (repl, { text }) => {
      if (text === 'end') return { kind: 'end' };
      return { kind: 'seek', position: positionOf(repl, text) };
    },
  },
  ...PAIRS.filter(({ group }) => group === 'going back'),
  {
    name: 'back',
    aliases: ['reverse'],
    group: 'going back',
    usage: '[COUNT | COMMAND]',
    summary: 'some instructions back, or one of the commands above turned round',
    example: 'back 100',
    isRepeatable: true,
    complete: () => BACK_KINDS,
    run: (repl, args) => {
      const command = PAIRS.find(
        ({ name, aliases, group }) =>
          group === 'going on' && [name, ...(aliases ?? [])].includes(args.words[0] ?? ''),
      );
      if (command === undefined) {
        return { kind: 'step', count: countOf(args, repl), backwards: true };
      }
      const words = args.words.slice(1);
      const reverse = PAIRS.find(({ name }) => name === `reverse-${command.name}`)!;
      return reverse.run(repl, { words, text: words.join(' '), slash: '' });
    },
  },
  {
    name: 'restart',
    aliases: ['start'],
    group: 'going back',
    usage: '',
    summary: 'to HOST_RIP of the first exit',
    example: 'restart',
    run: (_repl, args) => {
      nothing(args);
      return { kind: 'seek', position: { exit: 1, instruction: 0 } };
    },
  },
];

/** A position or the name of one. @throws ReplError BAD_ARGUMENT. */
export function positionOf(repl: Repl, text: string): Position {
  if (text === 'start') return { exit: 1, instruction: 0 };
  const position = repl.session.names.get(text) ?? parsePosition(text);
  if (position !== null) return position;
  const names = [...repl.session.names.keys()];
  const known = names.length === 0 ? '' : `; names: ${names.join(', ')}`;
  return bad(
    text === ''
      ? 'a position is wanted, as 12:40, or a name'
      : `"${text}" is no position: EXIT:INSTRUCTION is, as 12:40${known}`,
  );
}
