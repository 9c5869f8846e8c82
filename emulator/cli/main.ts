/**
 * The process: argv in, exit status out, and the accidents that only a process has.
 *
 * Invariant: a reader that goes away (EPIPE) ends the program silently; an error in an event ends it as a bug.
 */
import { COMMANDS } from './commands.js';
import { refuse, runProgram } from './program.js';
import { terminalOf } from './output/terminal.js';

const words = process.argv.slice(2);
const terminal = terminalOf(process.stdout, process.stderr, process.env);

for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit();
    throw error;
  });
}
process.on('uncaughtException', (error) => {
  process.exit(refuse(error, words.includes('--json'), terminal));
});

process.exitCode = await runProgram(words, COMMANDS, terminal);
