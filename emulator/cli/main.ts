/**
 * The process: argv in, exit status out, and the accidents that only a process has.
 *
 * Invariant: a reader that goes away (EPIPE) ends the program silently; a stream that cannot be written is told on stderr;
 * an error in an event ends it as a bug.
 */
import { COMMANDS } from './commands.js';
import { CliUsageError, systemReason } from './errors.js';
import { refuse, runProgram } from './program.js';
import { terminalOf } from './output/terminal.js';

const words = process.argv.slice(2);
const terminal = terminalOf(process.stdout, process.stderr, process.env);

for (const [name, stream] of Object.entries({ stdout: process.stdout, stderr: process.stderr })) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit();
    const message = `${name}: cannot be written: ${systemReason(error)}`;
    // Never as a document, which would have to go to stdout.
    process.exit(refuse(new CliUsageError('FILE_UNWRITABLE', message), false, terminal));
  });
}
process.on('uncaughtException', (error) => {
  process.exit(refuse(error, words.includes('--json'), terminal));
});

process.exitCode = await runProgram(words, COMMANDS, terminal);
