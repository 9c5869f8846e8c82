/**
 * `explore`: each event at every instruction boundary of every exit's handler, and every interleaving of two vCPUs and the
 * host.
 *
 * Source: CLI ("explore").
 * Invariant: an interrupted exploration tells what it has tried until then.
 */
import { didYouMean } from '../../../abi/did-you-mean.js';
import { parseElf } from '../../../loader/elf.js';
import { REASON_NAMES } from '../../explore/cases.js';
import { CONTRACT_EVENTS, Exploration } from '../../explore/exploration.js';
import { EVENTS, eventNamed, type ExploreEvent } from '../../explore/events.js';
import { actorsName, castsTo, type Cast } from '../../explore/interleave/casts.js';
import { Interleavings } from '../../explore/interleave/interleavings.js';
import { explorationReport } from '../../explore/report.js';
import { CCB_RULE } from '../../host/kvm/ccb-rule.js';
import { defineCommand } from '../command.js';
import { CliUsageError } from '../errors.js';
import { EXIT } from '../exit-status.js';
import { explorationText } from '../output/explore-text.js';
import { jsonText } from '../output/json.js';
import type { Terminal } from '../output/terminal.js';
import { naming, PAYLOAD_ARGUMENT, readPayloadFile, referencePayload } from '../payload-file.js';

/** Milliseconds between two looks at a signal and at the progress line. */
const SLICE_MS = 100;

/** The command. */
export const command = defineCommand({
  usage: '[payload]',
  positionals: { payload: PAYLOAD_ARGUMENT },
  options: {
    event: {
      type: 'string',
      describe: `Events, separated by commas: ${EVENTS.map(({ name }) => name).join(', ')} (default: those within the contract)`,
    },
    reason: { type: 'string', describe: 'Exit reasons, separated by commas (default: all)' },
    depth: {
      type: 'string',
      choices: ['1', '2'],
      default: '1',
      describe:
        'Events in one run: each by itself, or also each pair; interleavings of more actors',
    },
    vcpus: {
      type: 'string',
      choices: ['1', '2'],
      describe: 'Events at one vCPU alone, or interleavings of two alone (default: both)',
    },
    tso: {
      type: 'boolean',
      default: false,
      describe: 'Interleavings with the store buffers of x86-TSO',
    },
  },
  examples: [
    ['caretaker-emu explore', 'the reference payload: every reason, event and instruction'],
    ['caretaker-emu explore my.elf --reason HLT,VMCALL --event flip,nmi', 'two rows, two columns'],
    ['caretaker-emu explore --reason PAUSE_INSTRUCTION --depth 2', 'every pair of events'],
    ['caretaker-emu explore --vcpus 2 --tso', 'interleavings, with stores that others see late'],
    ['caretaker-emu explore --event detach', 'what the contract forbids, reported apart'],
  ],
  run: async (args, terminal) => {
    const file = args.payload ?? referencePayload();
    const events = args.event === undefined ? CONTRACT_EVENTS : eventsOf(args.event);
    const reasons = args.reason === undefined ? null : reasonsOf(args.reason);
    const payload = readPayloadFile(file);
    naming(file, () => parseElf(payload, CCB_RULE));
    const depth = args.depth === '2' ? 2 : 1;
    const seed = args.seed ?? 1;
    const wanted = (vcpus: '1' | '2'): boolean => (args.vcpus ?? vcpus) === vcpus;
    const exploration = new Exploration({
      payload,
      seed,
      events: wanted('1') ? events : [],
      reasons,
      depth,
    });
    const named = args.event === undefined ? null : events.map(({ name }) => name);
    const casts = wanted('2') ? castsOf(depth, named, reasons) : [];
    const interleavings = new Interleavings({ payload, seed, casts, isTso: args.tso });
    const ends = new Interruption();
    const seconds = await toTheEnd(eventsProgress(exploration), ends, terminal);
    const secondsOfTwo = await toTheEnd(interleavingsProgress(interleavings), ends, terminal);
    exploration.dispose();
    interleavings.dispose();
    ends.forget();
    terminal.progress('');
    const report = explorationReport(
      exploration,
      seconds,
      casts.length === 0 ? null : { of: interleavings, seconds: secondsOfTwo },
    );
    terminal.print(args.json ? jsonText(report) : explorationText(report, terminal));
    return report.findings.length === 0 ? EXIT.OK : EXIT.FINDING;
  },
});

/** Whether Ctrl-C was pressed. */
class Interruption {
  happened = false;
  readonly #note = (): void => {
    this.happened = true;
  };

  constructor() {
    process.once('SIGINT', this.#note);
  }

  forget(): void {
    process.removeListener('SIGINT', this.#note);
  }
}

function* eventsProgress(exploration: Exploration): Generator<string, void, void> {
  for (const place of exploration.run()) {
    const { points, runs, findings } = exploration;
    yield `${place}: ${points} points, ${runs} runs, ${findings.length} findings`;
  }
}

function* interleavingsProgress(interleavings: Interleavings): Generator<string, void, void> {
  for (const cast of interleavings.run()) {
    const { results, findings, settings } = interleavings;
    const executions = results.reduce((sum, one) => sum + one.executions, 0);
    yield (
      `${cast.state.name}: ${actorsName(cast)} (${results.length} of ${settings.casts.length}): ` +
      `${executions} interleavings, ${findings.length} findings`
    );
  }
}

/** Goes on to the end or to Ctrl-C; the seconds that it took. */
async function toTheEnd(
  progress: Generator<string, void, void>,
  ends: Interruption,
  terminal: Terminal,
): Promise<number> {
  const begun = performance.now();
  let shown = begun;
  for (const line of progress) {
    if (ends.happened) break;
    if (performance.now() - shown < SLICE_MS) continue;
    shown = performance.now();
    terminal.progress(line);
    // Lets a signal in.
    await new Promise((resolve) => setImmediate(resolve));
  }
  return (performance.now() - begun) / 1000;
}

/** Those with a reason that is wanted, and with no other host than the events that are. */
function castsOf(
  depth: 1 | 2,
  events: readonly string[] | null,
  reasons: ReadonlySet<string> | null,
): readonly Cast[] {
  return castsTo(depth).filter(
    ({ exits, hosts }) =>
      (reasons === null || exits.some(({ reason }) => reasons.has(reason))) &&
      (events === null ||
        (hosts.length > 0 && hosts.every(({ script }) => events.includes(script.event)))),
  );
}

function eventsOf(names: string): readonly ExploreEvent[] {
  return wordsOf(names).map((name) => {
    const event = eventNamed(name.toLowerCase());
    const known = EVENTS.map((one) => one.name);
    if (event === undefined) throw unknown('event', name, known);
    return event;
  });
}

function reasonsOf(names: string): ReadonlySet<string> {
  return new Set(
    wordsOf(names).map((name) => {
      const wanted = name.toUpperCase().replace(/^EXIT_REASON_/, '');
      const found = REASON_NAMES.find((known) => known.toUpperCase() === wanted);
      if (found === undefined) throw unknown('reason', name, REASON_NAMES);
      return found;
    }),
  );
}

/** Each once, in the order given. */
const wordsOf = (list: string): readonly string[] => [
  ...new Set(list.split(',').map((word) => word.trim())),
];

const unknown = (option: string, name: string, known: readonly string[]): CliUsageError =>
  new CliUsageError('BAD_VALUE', `--${option}: no ${option} "${name}"${didYouMean(name, known)}`, {
    command: 'caretaker-emu explore',
  });
