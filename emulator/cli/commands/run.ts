/**
 * `run`: a scenario end to end with one payload.
 *
 * Source: CLI ("run"). A step that the host refuses ends the run and is a finding, told with all that was seen until
 * then; a payload that is refused before anything ran is a refusal.
 */
import { writeFileSync } from 'node:fs';
import type { Conductor, ConductorError } from '../../machine/conductor.js';
import { defineCommand } from '../command.js';
import { RefusedFileError } from '../errors.js';
import { EXIT } from '../exit-status.js';
import { jsonText } from '../output/json.js';
import { runText } from '../output/run-text.js';
import { PAYLOAD_ARGUMENT, readPayloadFile, referencePayload } from '../payload-file.js';

/** How many events a run tells when nobody says how many. */
const TIMELINE_LENGTH = 200;

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
    trace: { type: 'string', describe: 'Write every exit to FILE, for Perfetto' },
    timeline: { type: 'number', describe: 'How many events to show, the most telling' },
  },
  examples: [
    ['caretaker-emu run', 'a live update with the reference payload'],
    ['caretaker-emu run my.elf --seed 7', 'the same with yours, drawn anew'],
    ['caretaker-emu run --trace out.json', 'every exit, for a trace viewer'],
  ],
  run: async (args, terminal) => {
    // Here and not above: --help needs none of it.
    const [{ Conductor }, { loadScenario }, { runReport }, { traceFile }] = await Promise.all([
      import('../../machine/conductor.js'),
      import('../../machine/scenario/load.js'),
      import('../../report/run-report.js'),
      import('../../report/trace-file.js'),
    ]);
    const file = args.payload ?? referencePayload();
    const payload = readPayloadFile(file);
    const loaded = loadScenario(args.scenario);
    const scenario = args.seed === undefined ? loaded : { ...loaded, seed: args.seed };
    const conductor = new Conductor(scenario, payload, args.trace !== undefined);
    terminal.progress(`${scenario.name} ...`);
    const stopped = takeAllSteps(conductor, file);
    terminal.progress('');
    if (args.trace !== undefined) writeFileSync(args.trace, traceFile(conductor, payload));
    const report = runReport(conductor, stopped, args.timeline ?? TIMELINE_LENGTH);
    // On a screen an exit that took its usual course is noise, unless somebody asks for events by number.
    const leastWeight = args.timeline === undefined ? 2 : 1;
    terminal.print(args.json ? jsonText(report) : runText(report, leastWeight, terminal));
    return report.result === 'pass' ? EXIT.OK : EXIT.FINDING;
  },
});

/** @throws RefusedFileError with the loader's code when the payload is refused. */
function takeAllSteps(conductor: Conductor, file: string): ConductorError | null {
  try {
    conductor.run();
    return null;
  } catch (error) {
    if (!isConductorError(error) || error.code === 'STEP_OUT_OF_ORDER') throw error;
    if (error.code === 'HOST_REFUSED') return error;
    const { code, ...details } = error.details;
    const cause = typeof code === 'string' ? code : error.code;
    throw new RefusedFileError(cause, error.message, { ...details, file }, { cause: error });
  }
}

function isConductorError(error: unknown): error is ConductorError {
  return error instanceof Error && error.name === 'ConductorError';
}
