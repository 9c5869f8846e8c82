/**
 * `debug`: the REPL on a terminal, or commands from a file or a pipe.
 *
 * Source: CLI ("debug"): stops first at HOST_RIP of the first exit; with --commands or piped input it runs those commands
 * without prompts and ends with status 1 when one fails.
 */
import { readFileSync } from 'node:fs';
import { scriptController, type ScriptResult } from '../../debug/repl/script.js';
import { DebugSession } from '../../debug/session.js';
import { SourceLevel } from '../../debug/source/source-level.js';
import { packageRoot } from '../../machine/package-root.js';
import { loadScenario } from '../../machine/scenario/load.js';
import { defineCommand } from '../command.js';
import { canvasOf } from '../debug/canvas.js';
import { DISK } from '../debug/files.js';
import { runInteractively } from '../debug/interactive.js';
import { CliUsageError, shownName, systemReason } from '../errors.js';
import { EXIT } from '../exit-status.js';
import { jsonText } from '../output/json.js';
import { naming, PAYLOAD_ARGUMENT, readPayloadFile, referencePayload } from '../payload-file.js';

/** The command. */
export const command = defineCommand({
  usage: '[payload]',
  positionals: { payload: PAYLOAD_ARGUMENT },
  options: {
    scenario: {
      type: 'string',
      default: 'live-update',
      describe: 'A built-in scenario (see `scenarios`) or a YAML file',
    },
    commands: { type: 'string', describe: 'Take commands from FILE instead of the terminal' },
  },
  examples: [
    ['caretaker-emu debug', 'stop at the first exit, and ask what to do'],
    ['caretaker-emu debug my.elf --scenario attached', 'the same with yours, while KVM is there'],
    ['caretaker-emu debug --commands steps.txt', 'the commands of a file, one a line'],
    ["echo 'break caretaker_dispatch' | caretaker-emu debug", 'or from a pipe'],
  ],
  run: async (args, terminal) => {
    const file = args.payload ?? referencePayload();
    const payload = readPayloadFile(file);
    const loaded = loadScenario(args.scenario);
    const scenario = args.seed === undefined ? loaded : { ...loaded, seed: args.seed };
    const isInteractive =
      args.commands === undefined && process.stdin.isTTY && process.stdout.isTTY && !args.json;
    if (isInteractive) return runInteractively({ scenario, payload, file }, terminal);
    const lines = linesOf(args.commands);
    const output: string[] = [];
    const print = (line: string): void => {
      if (args.json) output.push(line);
      else terminal.print(line);
    };
    const result: ScriptResult = { failedLine: null };
    const level = await SourceLevel.create(
      naming(file, () => DebugSession.imageOf(payload)),
      {
        payloadFile: file,
        root: packageRoot(),
      },
    );
    const parts = { level, canvas: () => canvasOf(terminal), print, files: DISK };
    const session = new DebugSession({ scenario, payload }, scriptController(lines, parts, result));
    session.run();
    const isOk = result.failedLine === null;
    if (args.json) {
      terminal.print(jsonText({ output, failedLine: result.failedLine }));
    } else if (!isOk) {
      const where = args.commands === undefined ? 'input' : shownName(args.commands);
      terminal.note(`${where}:${result.failedLine!}: this command failed`);
    }
    return isOk ? EXIT.OK : EXIT.FINDING;
  },
});

/** The lines of a file, or of standard input. @throws CliUsageError FILE_UNREADABLE. */
function linesOf(file: string | undefined): readonly string[] {
  try {
    const text = readFileSync(file ?? 0, 'utf8');
    const lines = text.split(/\r?\n/);
    return lines.at(-1) === '' ? lines.slice(0, -1) : lines;
  } catch (cause) {
    const name = file === undefined ? 'standard input' : shownName(file);
    const message = `${name}: cannot be read: ${systemReason(cause)}`;
    throw new CliUsageError('FILE_UNREADABLE', message, { file: name }, { cause });
  }
}
