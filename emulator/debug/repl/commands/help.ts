/** help: all commands, or one with an example. */
import { COMMANDS } from './index.js';
import { atMost, GROUPS, type ReplCommand } from '../command.js';
import { findCommand } from '../repl.js';
import { hanging } from '../../source/views/paint.js';

const shortOf = ({ aliases }: ReplCommand): string =>
  aliases === undefined ? '' : ` (${aliases.join(', ')})`;

export const HELP: readonly ReplCommand[] = [
  {
    name: 'help',
    aliases: ['h', '?'],
    group: 'the session',
    usage: '[COMMAND]',
    summary: 'all commands, or what one takes, with an example',
    example: 'help break',
    complete: () => COMMANDS.map(({ name }) => name),
    run: (repl, args) => {
      const [word] = atMost(args, 1);
      if (word !== undefined) {
        const command = findCommand(word);
        repl.print(
          `${command.name} ${command.usage}`.trimEnd() + shortOf(command),
          ...hanging('  ', command.summary, repl.canvas.columns),
          `  example: ${command.example}`,
        );
        return;
      }
      for (const group of GROUPS) {
        repl.print(`${group}:`);
        for (const command of COMMANDS) {
          if (command.group !== group) continue;
          const head = `  ${command.name}${shortOf(command)}`;
          repl.print(...hanging(`${head.padEnd(28)} `, command.summary, repl.canvas.columns));
        }
      }
      repl.print('Names may be cut short. "help COMMAND" has an example.');
    },
  },
];
