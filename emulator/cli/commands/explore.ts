/**
 * `explore`: each event at every instruction boundary of every exit's handler.
 *
 * Source: CLI ("explore").
 * Invariant: an interrupted exploration tells what it has tried until then.
 */
import { didYouMean } from '../../../abi/did-you-mean.js';
import { parseElf } from '../../../loader/elf.js';
import { REASON_NAMES } from '../../explore/cases.js';
import { CONTRACT_EVENTS, Exploration } from '../../explore/exploration.js';
import { EVENTS, eventNamed, type ExploreEvent } from '../../explore/events.js';
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
      describe: 'Events in one run: each by itself, or also each pair',
    },
  },
  examples: [
    ['caretaker-emu explore', 'the reference payload: every reason, event and instruction'],
    ['caretaker-emu explore my.elf --reason HLT,VMCALL --event flip,nmi', 'two rows, two columns'],
    ['caretaker-emu explore --reason PAUSE_INSTRUCTION --depth 2', 'every pair of events'],
    ['caretaker-emu explore --event detach', 'what the contract forbids, reported apart'],
  ],
  run: async (args, terminal) => {
    const file = args.payload ?? referencePayload();
    const events = args.event === undefined ? CONTRACT_EVENTS : eventsOf(args.event);
    const reasons = args.reason === undefined ? null : reasonsOf(args.reason);
    const payload = readPayloadFile(file);
    naming(file, () => parseElf(payload, CCB_RULE));
    const depth = args.depth === '2' ? 2 : 1;
    const exploration = new Exploration({ payload, seed: args.seed ?? 1, events, reasons, depth });
    const seconds = await explore(exploration, terminal);
    const report = explorationReport(exploration, seconds);
    terminal.print(args.json ? jsonText(report) : explorationText(report, terminal));
    return report.findings.length === 0 ? EXIT.OK : EXIT.FINDING;
  },
});

/** To the end or to Ctrl-C; the seconds that it took. */
async function explore(exploration: Exploration, terminal: Terminal): Promise<number> {
  let isInterrupted = false;
  const interrupt = (): void => {
    isInterrupted = true;
  };
  process.once('SIGINT', interrupt);
  const begun = performance.now();
  let shown = begun;
  try {
    for (const place of exploration.run()) {
      if (performance.now() - shown < SLICE_MS) continue;
      shown = performance.now();
      const { points, runs, findings } = exploration;
      terminal.progress(`${place}: ${points} points, ${runs} runs, ${findings.length} findings`);
      // Lets a signal in.
      await new Promise((resolve) => setImmediate(resolve));
      if (isInterrupted) break;
    }
  } finally {
    process.removeListener('SIGINT', interrupt);
    exploration.dispose();
    terminal.progress('');
  }
  return (performance.now() - begun) / 1000;
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
