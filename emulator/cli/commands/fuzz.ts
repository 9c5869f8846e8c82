/**
 * `fuzz`: a coverage-guided campaign of exit sequences against the payload.
 *
 * Source: CLI ("fuzz").
 * Invariant: an interrupted campaign ends as one that is over does: corpus and findings are written, the account printed.
 */
import { parseElf } from '../../../loader/elf.js';
import { CCB_RULE } from '../../host/kvm/ccb-rule.js';
import { accountOf, type CampaignAccount } from '../../fuzz/account.js';
import { Campaign, type CampaignSettings } from '../../fuzz/campaign.js';
import { campaignReport, type CampaignReport } from '../../fuzz/report.js';
import type { WorkerProgress } from '../../fuzz/worker-messages.js';
import { FuzzWorkers } from '../../fuzz/workers.js';
import { defineCommand } from '../command.js';
import { EXIT } from '../exit-status.js';
import { readCorpus, writeCorpus, writeSolutions } from '../fuzz-files.js';
import { campaignText } from '../output/fuzz-text.js';
import { jsonText } from '../output/json.js';
import type { Terminal } from '../output/terminal.js';
import { openFolder, openOutput } from '../outputs.js';
import { naming, PAYLOAD_ARGUMENT, readPayloadFile, referencePayload } from '../payload-file.js';

/** How long a campaign lasts when nobody says. */
const SECONDS = 30;
/** Milliseconds between two looks at the clock, at a signal and at the progress line. */
const SLICE_MS = 50;
const PROGRESS_EVERY = 10;

/** The command. */
export const command = defineCommand({
  usage: '[payload]',
  positionals: { payload: PAYLOAD_ARGUMENT },
  options: {
    runs: { type: 'number', minimum: 1, describe: 'End after so many inputs' },
    seconds: {
      type: 'number',
      minimum: 1,
      describe: `End after so many seconds (default: ${SECONDS}, without --runs)`,
    },
    workers: {
      type: 'number',
      minimum: 1,
      maximum: 256,
      default: 1,
      describe: 'Threads that fuzz, and share what they find (one: the same findings every time)',
    },
    mix: {
      choices: ['measured', 'all'],
      default: 'all',
      describe: 'Reasons to draw: those of a measured busy guest, or every one',
    },
    corpus: { type: 'string', describe: 'Folder to read inputs from and to write new ones to' },
    solutions: { type: 'string', describe: 'Folder for findings, each with what replays it' },
    lcov: { type: 'string', describe: 'Write the executed source lines as an lcov tracefile' },
  },
  examples: [
    ['caretaker-emu fuzz', `the reference payload, for ${SECONDS} seconds`],
    ['caretaker-emu fuzz my.elf --runs 100000 --seed 7', 'the same findings every time'],
    ['caretaker-emu fuzz --workers 4 --seconds 600', 'four threads, for ten minutes'],
    ['caretaker-emu fuzz --corpus corpus --solutions findings', 'keep what was learnt'],
  ],
  run: async (args, terminal) => {
    const file = args.payload ?? referencePayload();
    const payload = readPayloadFile(file);
    naming(file, () => parseElf(payload, CCB_RULE));
    const corpus = args.corpus === undefined ? [] : readCorpus(args.corpus);
    if (args.solutions !== undefined) openFolder('--solutions', args.solutions);
    const lcov = args.lcov === undefined ? null : openOutput('--lcov', args.lcov);
    const mix = args.mix === 'measured' ? 'measured' : 'all';
    const settings: CampaignSettings = { payload, seed: args.seed ?? 1, mix, corpus };
    const bounds = {
      runs: args.runs ?? Infinity,
      seconds: args.seconds ?? (args.runs === undefined ? SECONDS : Infinity),
    };
    const run = args.workers === 1 ? runHere : runOnThreads(args.workers);
    const { account, seconds } = await run(settings, bounds, terminal);
    terminal.progress('');
    const report = campaignReport(account, seconds);
    if (args.corpus !== undefined) writeCorpus(args.corpus, account.corpus);
    const files =
      args.solutions === undefined
        ? null
        : writeSolutions(args.solutions, report.findings, payload, {
            seed: account.seed,
            payloadFile: file,
          });
    lcov?.write(account.lines.lcov());
    const document: CampaignReport = files === null ? report : { ...report, findings: files };
    terminal.print(args.json ? jsonText(document) : campaignText(document, terminal));
    return report.findings.length === 0 ? EXIT.OK : EXIT.FINDING;
  },
});

interface Bounds {
  readonly runs: number;
  readonly seconds: number;
}

/** A campaign that is over, and the seconds that it took. */
interface Ended {
  readonly account: CampaignAccount;
  readonly seconds: number;
}

/** Runs a campaign on this thread, until a bound or Ctrl-C. */
async function runHere(
  settings: CampaignSettings,
  bounds: Bounds,
  terminal: Terminal,
): Promise<Ended> {
  const campaign = new Campaign(settings);
  const clock = new CampaignClock(bounds);
  for (let slice = 0; !clock.isOver && campaign.execs < bounds.runs; slice++) {
    const until = performance.now() + SLICE_MS;
    while (campaign.execs < bounds.runs && performance.now() < until) campaign.step();
    const { execs, tally, corpus, coverage, findings } = campaign;
    const { exits } = tally;
    const far = { execs, exits, edges: coverage.edges, findings: findings.length };
    if (slice % PROGRESS_EVERY === 0)
      terminal.progress(progressLine({ ...far, corpus: corpus.length }, clock.seconds));
    // Lets a signal in.
    await new Promise((resolve) => setImmediate(resolve));
  }
  return { account: accountOf(campaign), seconds: clock.stop() };
}

/** Runs a campaign on threads of its own, whose time begins with the first input. */
const runOnThreads =
  (count: number) =>
  async (settings: CampaignSettings, bounds: Bounds, terminal: Terminal): Promise<Ended> => {
    const workers = new FuzzWorkers(settings, count, bounds.runs);
    let clock = new CampaignClock(bounds);
    const account = workers.account();
    let isDone = false;
    const done = account.finally(() => (isDone = true)).catch(() => undefined);
    const isOver = (): boolean => isDone || clock.isOver;
    for (let hasBegun = false; !isOver();) {
      await Promise.race([done, new Promise((resolve) => setTimeout(resolve, SLICE_MS))]);
      const { progress } = workers;
      if (!hasBegun && progress.execs > 0 && !isOver()) {
        hasBegun = true;
        clock.stop();
        clock = new CampaignClock(bounds);
      }
      terminal.progress(progressLine(progress, clock.seconds));
    }
    workers.end();
    await done;
    const seconds = clock.stop();
    return { account: await account, seconds };
  };

/** How long a campaign has run, and whether that or Ctrl-C ends it. */
class CampaignClock {
  readonly #bounds: Bounds;
  readonly #begun = performance.now();
  #isInterrupted = false;
  readonly #interrupt = (): void => {
    this.#isInterrupted = true;
  };

  constructor(bounds: Bounds) {
    this.#bounds = bounds;
    process.once('SIGINT', this.#interrupt);
  }

  get seconds(): number {
    return (performance.now() - this.#begun) / 1000;
  }
  get isOver(): boolean {
    return this.#isInterrupted || this.seconds >= this.#bounds.seconds;
  }

  /** The seconds that it took. */
  stop(): number {
    process.removeListener('SIGINT', this.#interrupt);
    return this.seconds;
  }
}

function progressLine(
  { execs, exits, edges, corpus, findings }: WorkerProgress & { readonly corpus: number },
  seconds: number,
): string {
  const rate = Math.round(exits / Math.max(seconds, 0.001));
  return `${execs} inputs, ${exits} exits (${rate}/s), ${edges} edges, corpus ${corpus}, findings ${findings}`;
}
