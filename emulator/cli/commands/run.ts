/**
 * `run`: a scenario end to end with one payload.
 *
 * Source: CLI ("run"). A step that the host refuses ends the run and is a finding, told with all that was seen until
 * then; a payload that is refused before anything ran is a refusal.
 */
import { createHash } from 'node:crypto';
import { Conductor, ConductorError } from '../../machine/conductor.js';
import { loadScenario } from '../../machine/scenario/load.js';
import { laneCells } from '../../report/lane-cells.js';
import { runReport, type RunReport } from '../../report/run-report.js';
import { timeAxis } from '../../report/time-axis.js';
import { traceFile } from '../../report/trace-file.js';
import { waitsOf } from '../../report/waits.js';
import { defineCommand } from '../command.js';
import { RefusedFileError } from '../errors.js';
import { EXIT } from '../exit-status.js';
import { integrityOf } from '../integrity-options.js';
import { jsonText } from '../output/json.js';
import { laneColumns, type Picture } from '../output/run/picture.js';
import { runText } from '../output/run/run-text.js';
import { openOutput } from '../outputs.js';
import { PAYLOAD_ARGUMENT, readPayloadFile, referencePayload } from '../payload-file.js';

/** How many events the document has when nobody says how many. */
const TIMELINE_LENGTH = 200;
/** A picture is drawn no wider and no narrower than this. */
const WIDEST = 200;
const NARROWEST = 40;
/** Weight of the events that the picture marks. */
const MARKED_WEIGHT = 3;

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
    keyring: { type: 'string', describe: 'Certificates that the kernels trust, in PEM or DER' },
    'ima-policy': { type: 'string', describe: 'What the kernels measure and appraise' },
    lockdown: { type: 'boolean', default: false, describe: 'Refuse a payload without a signature' },
    timeline: { type: 'number', describe: 'How many events to show, the most telling' },
  },
  examples: [
    ['caretaker-emu run', 'a live update with the reference payload'],
    ['caretaker-emu run my.elf --seed 7', 'the same with yours, drawn anew'],
    ['caretaker-emu run --scenario examples/scenario.yaml', 'a scenario of your own'],
    [
      'caretaker-emu run a.signed.elf --lockdown --keyring cert.pem',
      'on a host that takes signed payloads alone',
    ],
    [
      'caretaker-emu run a.signed.elf --ima-policy policy --keyring cert.pem',
      'on a host whose IMA appraises payloads',
    ],
    ['caretaker-emu run --trace out.json', 'every exit, for a trace viewer'],
  ],
  run: (args, terminal) => {
    const file = args.payload ?? referencePayload();
    const payload = readPayloadFile(file);
    const loaded = loadScenario(args.scenario);
    const scenario = args.seed === undefined ? loaded : { ...loaded, seed: args.seed };
    // Before the run, which may take long and would be lost.
    const trace = args.trace === undefined ? null : openOutput('--trace', args.trace);
    terminal.progress(`${scenario.name} ...`);
    const integrity = integrityOf(args);
    const conductor = new Conductor(scenario, payload, true, { integrity });
    const stopped = takeAllSteps(conductor, file, args.scenario);
    terminal.progress('');
    const payloadSha256 = createHash('sha256').update(payload).digest('hex');
    trace?.write(traceFile(conductor, payloadSha256));
    // A page tells what many vCPUs have in common once, and so wants all of it.
    const all = conductor.machine.timeline.eventCount;
    const timelineLength = args.timeline ?? (args.json ? TIMELINE_LENGTH : all);
    const report = runReport(conductor, { payload, payloadSha256, stopped, timelineLength });
    if (args.json) terminal.print(jsonText(report));
    else {
      const columns = Math.min(WIDEST, Math.max(NARROWEST, terminal.columns));
      const page = {
        report,
        picture: pictureOf(conductor, report, columns),
        mostEvents: args.timeline ?? null,
      };
      terminal.print(runText(page, { ...terminal, columns }));
    }
    return report.result === 'pass' ? EXIT.OK : EXIT.FINDING;
  },
});

/**
 * @throws RefusedFileError with the loader's code when the payload is refused, ConductorError with the scenario's file for
 * a step that cannot be taken.
 */
function takeAllSteps(conductor: Conductor, file: string, scenario: string): ConductorError | null {
  try {
    conductor.run();
    return null;
  } catch (error) {
    if (!(error instanceof ConductorError)) throw error;
    if (error.code === 'STEP_OUT_OF_ORDER') {
      const { code, message, details } = error;
      throw new ConductorError(code, message, { ...details, file: scenario }, { cause: error });
    }
    if (error.code === 'HOST_REFUSED') return error;
    const { code, ...details } = error.details;
    const cause = typeof code === 'string' ? code : error.code;
    throw new RefusedFileError(cause, error.message, { ...details, file }, { cause: error });
  }
}

/** The picture of a run that got as far as running a vCPU. */
function pictureOf(
  { machine }: Conductor,
  { phases, vcpus, tscFrequencyHz }: RunReport,
  columns: number,
): Picture | null {
  if (phases.length === 0 || vcpus.length === 0) return null;
  const ids = vcpus.map(({ id }) => id);
  const { stretches } = timeAxis(phases, columns);
  const axis = timeAxis(phases, laneColumns(columns, ids, stretches.length));
  const { slices } = machine.timeline;
  const cells = laneCells(axis, { vcpus: ids, slices, waits: waitsOf(machine), tscFrequencyHz });
  const hostEvents = machine.timeline
    .mostTelling(machine.timeline.eventCount)
    .filter(({ vcpu, weight }) => vcpu === null && weight === MARKED_WEIGHT)
    .map(({ tsc }) => tsc);
  return { axis, cells, hostEvents, tscFrequencyHz };
}
