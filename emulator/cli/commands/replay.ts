/**
 * `replay`: a finding again, or any input of a corpus, with what a run of a scenario would say of it.
 *
 * Source: CLI ("replay").
 */
import { createHash } from 'node:crypto';
import { parseElf } from '../../../loader/elf.js';
import { CCB_RULE } from '../../host/kvm/ccb-rule.js';
import { recordedRun } from '../../debug/recording.js';
import { Arena } from '../../fuzz/arena.js';
import { decode } from '../../fuzz/codec.js';
import { storyOf } from '../../fuzz/story.js';
import { Ground } from '../../explore/ground.js';
import { Scene, Stand } from '../../explore/interleave/scene.js';
import { isSceneSchedule, parseSceneSchedule } from '../../explore/interleave/scene-schedule.js';
import { sceneStory, scheduleStory } from '../../explore/report.js';
import { isSchedule, parseSchedule } from '../../explore/schedule.js';
import type { Conductor } from '../../machine/conductor.js';
import { runReport, type RunReport } from '../../report/run-report.js';
import { defineCommand } from '../command.js';
import { EXIT, type ExitStatus } from '../exit-status.js';
import { jsonText } from '../output/json.js';
import type { Terminal } from '../output/terminal.js';
import { naming, readPayloadFile, referencePayload } from '../payload-file.js';
import { readReplayFile, readReplayText } from '../replay-file.js';
import { replayRecording } from '../replay-recording.js';

const TIMELINE_LENGTH = 200;

/** The command. */
export const command = defineCommand({
  usage: '<file>',
  positionals: {
    file: {
      type: 'string',
      demandOption: true,
      describe: 'A finding (ID.json), an input of a corpus, a schedule of explore, or a recording',
    },
  },
  options: {
    payload: {
      type: 'string',
      describe: 'The payload (default: the one in the finding, else the reference payload)',
    },
  },
  examples: [
    ['caretaker-emu replay findings/1b2c3d4e5f607182.json', 'the finding once more'],
    [
      'caretaker-emu replay corpus/0a1b2c3d4e5f6071 --payload my.elf',
      'an input against your payload',
    ],
    ['caretaker-emu replay detached:VMCALL:nmi@57,flip@81', 'a schedule that explore printed'],
    ['caretaker-emu replay detached-tso:VMCALL+flip@0:a8c9', 'one of several actors'],
  ],
  run: (args, terminal) => {
    if (isSceneSchedule(args.file)) return replayScene(args, terminal);
    if (isSchedule(args.file)) return replaySchedule(args, terminal);
    const text = readReplayText(args.file);
    const recorded = recordedRun(text);
    if (recorded !== null) return replayDebugged(args, terminal, text, recorded);
    const found = readReplayFile(args.file);
    const file = args.payload ?? found.payload?.file ?? referencePayload();
    const payload = readPayloadFile(file);
    naming(file, () => parseElf(payload, CCB_RULE));
    const payloadSha256 = createHash('sha256').update(payload).digest('hex');
    if (found.payload !== null && found.payload.sha256 !== payloadSha256)
      terminal.note(`${file} is another build than the one that the finding was made with`);
    const seed = args.seed ?? found.seed ?? 1;
    const arena = new Arena(payload, seed);
    const input = decode(found.bytes);
    arena.run(input);
    const report = {
      ...runReport(arena.conductor, {
        payload,
        payloadSha256,
        stopped: null,
        timelineLength: TIMELINE_LENGTH,
      }),
      scenario: `replay: ${arena.baseName(input)}`,
      seed,
    };
    terminal.print(args.json ? jsonText(report) : textOf(report, arena, found.bytes));
    return report.result === 'pass' ? EXIT.OK : EXIT.FINDING;
  },
});

interface ScheduleArguments {
  readonly file: string;
  readonly payload: string | undefined;
  readonly seed: number | undefined;
  readonly json: boolean;
}

function replaySchedule(args: ScheduleArguments, terminal: Terminal): ExitStatus {
  const schedule = parseSchedule(args.file);
  const { payload, seed } = payloadOf(args);
  const ground = new Ground(payload, schedule.state, seed);
  ground.branch(schedule.exit, schedule.happenings);
  return tell(args, terminal, {
    payload,
    seed,
    conductor: ground.stage.conductor,
    story: scheduleStory({ schedule }),
  });
}

function replayDebugged(
  args: ScheduleArguments,
  terminal: Terminal,
  text: string,
  recorded: { readonly scenario: string; readonly seed: number },
): ExitStatus {
  const { payload } = payloadOf(args);
  const payloadSha256 = createHash('sha256').update(payload).digest('hex');
  const settings = { payload, payloadSha256, timelineLength: TIMELINE_LENGTH };
  const report = replayRecording(text, args.file, recorded, settings);
  const { scenario, seed } = recorded;
  const story = [
    `a recording of the debugger: ${scenario}, seed ${seed}, with its changes, to the end`,
    `step through it: caretaker-emu debug --scenario ${scenario} --seed ${seed}, then replay ${args.file}`,
  ];
  terminal.print(args.json ? jsonText(report) : verdictOf(report, story));
  return report.result === 'pass' ? EXIT.OK : EXIT.FINDING;
}

function replayScene(args: ScheduleArguments, terminal: Terminal): ExitStatus {
  const schedule = parseSceneSchedule(args.file);
  const { payload, seed } = payloadOf(args);
  const stand = new Stand(payload, schedule.cast.state, seed);
  new Scene(stand, schedule.cast, schedule.isTso, stand.machine.snapshot()).replay(schedule.steps);
  const { conductor } = stand;
  return tell(args, terminal, { payload, seed, conductor, story: sceneStory(schedule) });
}

function payloadOf(args: ScheduleArguments): { payload: Uint8Array; seed: number } {
  const file = args.payload ?? referencePayload();
  const payload = readPayloadFile(file);
  naming(file, () => parseElf(payload, CCB_RULE));
  return { payload, seed: args.seed ?? 1 };
}

/** What came of a schedule. */
function tell(
  args: ScheduleArguments,
  terminal: Terminal,
  replayed: {
    readonly payload: Uint8Array;
    readonly seed: number;
    readonly conductor: Conductor;
    readonly story: readonly string[];
  },
): ExitStatus {
  const { payload, seed, conductor, story } = replayed;
  const payloadSha256 = createHash('sha256').update(payload).digest('hex');
  const report: RunReport = {
    ...runReport(conductor, {
      payload,
      payloadSha256,
      stopped: null,
      timelineLength: TIMELINE_LENGTH,
    }),
    scenario: `replay: ${args.file}`,
    seed,
  };
  terminal.print(args.json ? jsonText(report) : verdictOf(report, story));
  return report.result === 'pass' ? EXIT.OK : EXIT.FINDING;
}

/** What a run that was told as a story has come to. */
function verdictOf(report: RunReport, story: readonly string[]): string {
  const broken = report.findings.map(({ invariant, message, address, symbol }) =>
    [`${invariant}: ${message}`, `  at ${symbol ?? address}`].join('\n'),
  );
  const verdict =
    broken.length === 0
      ? 'pass: every invariant held'
      : `fail: ${broken.length} ${broken.length === 1 ? 'finding' : 'findings'}`;
  return [...story, '', ...broken, verdict].join('\n');
}

function textOf(report: RunReport, arena: Arena, bytes: Uint8Array): string {
  const input = decode(bytes);
  const base = arena.baseName(input);
  if (report.findings.length === 0) {
    const story = storyOf({ input, base, message: 'nothing broke', holdsWhen: null, where: null });
    return [...story, '', 'pass: every invariant held'].join('\n');
  }
  return report.findings
    .flatMap(({ invariant, message, address, symbol }) => {
      const holdsWhen =
        arena.machine.hooks.invariants.find(({ id }) => id === invariant)?.holdsWhen ?? invariant;
      const where = symbol ?? address;
      return [
        invariant,
        ...storyOf({ input, base, message, holdsWhen, where }).map((line) => `  ${line}`),
        '',
      ];
    })
    .concat(`fail: ${report.findings.length} findings`)
    .join('\n');
}
