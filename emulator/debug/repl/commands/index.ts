/** The table of the REPL's commands, in the order of `help`. */
import type { ReplCommand } from '../command.js';
import { CHANGING } from './changing.js';
import { GOING } from './going.js';
import { HELP } from './help.js';
import { HOST } from './host.js';
import { INFO } from './info.js';
import { LOOKING } from './looking.js';
import { MEMORY } from './memory.js';
import { RUN } from './run.js';
import { SESSION } from './session.js';
import { STOPPING } from './stopping.js';

export const COMMANDS: readonly ReplCommand[] = [
  ...GOING,
  ...STOPPING,
  ...LOOKING,
  ...MEMORY,
  ...RUN,
  ...CHANGING,
  ...HOST,
  ...SESSION,
  ...INFO,
  ...HELP,
];
