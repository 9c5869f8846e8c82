/** `info` for fingers that know gdb: the commands that look, by the words that gdb has for them. */
import { didYouMean } from '../../../../abi/did-you-mean.js';
import { bad, type ReplCommand } from '../command.js';
import { findCommand } from '../repl.js';

/** What gdb calls it, and the command here. */
const TOPICS: Readonly<Record<string, string>> = {
  registers: 'registers',
  breakpoints: 'breakpoints',
  watchpoints: 'breakpoints',
  threads: 'vcpus',
  frame: 'where',
  line: 'where',
  stack: 'backtrace',
  locals: 'locals',
  args: 'locals',
  source: 'list',
  symbol: 'symbol',
  checkpoints: 'names',
};
const NAMES = Object.keys(TOPICS);

export const INFO: readonly ReplCommand[] = [
  {
    name: 'info',
    aliases: ['i'],
    group: 'looking',
    usage: `${NAMES.join(' | ')} [...]`,
    summary: "gdb's name for the commands that look",
    example: 'info registers rip',
    complete: () => NAMES,
    run: (repl, { words: [topic = '', ...words] }) => {
      const begun = topic === '' ? [] : NAMES.filter((name) => name.startsWith(topic));
      const [found] = begun;
      const commands = new Set(begun.map((name) => TOPICS[name]));
      if (found === undefined || (commands.size > 1 && !(topic in TOPICS))) {
        const known = begun.length > 0 ? begun : NAMES;
        return bad(
          `info on what: ${known.join(', ')}${topic === '' ? '' : didYouMean(topic, NAMES)}`,
        );
      }
      const command = findCommand(TOPICS[topic] ?? TOPICS[found]!);
      return command.run(repl, { words, text: words.join(' '), slash: '' });
    },
  },
];
