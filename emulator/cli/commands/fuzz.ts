/**
 * `fuzz`: a coverage-guided campaign of exit sequences against the payload.
 *
 * Source: CLI ("fuzz").
 * Invariant: an interrupted campaign ends as one that is over does: corpus and findings are written, the account printed.
 */
import { parseElf } from '../../../loader/elf.js';
import { CCB_RULE } from '../../host/kvm/ccb-rule.js';
import { Campaign } from '../../fuzz/campaign.js';
import { campaignReport, type CampaignReport } from '../../fuzz/report.js';
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
    const campaign = new Campaign({ payload, seed: args.seed ?? 1, mix, corpus });
    const runs = args.runs ?? Infinity;
    const seconds = args.seconds ?? (args.runs === undefined ? SECONDS : Infinity);
    const lasted = await runCampaign(campaign, { runs, seconds }, terminal);
    terminal.progress('');
    const report = campaignReport(campaign, lasted);
    if (args.corpus !== undefined) writeCorpus(args.corpus, campaign.corpus);
    const files =
      args.solutions === undefined
        ? null
        : writeSolutions(args.solutions, report.findings, payload, {
            seed: campaign.seed,
            payloadFile: file,
          });
    lcov?.write(campaign.lines.lcov());
    const document: CampaignReport = files === null ? report : { ...report, findings: files };
    terminal.print(args.json ? jsonText(document) : campaignText(document, terminal));
    return report.findings.length === 0 ? EXIT.OK : EXIT.FINDING;
  },
});

interface Bounds {
  readonly runs: number;
  readonly seconds: number;
}

/** Runs until a bound or Ctrl-C; the seconds that it took. */
async function runCampaign(
  campaign: Campaign,
  { runs, seconds }: Bounds,
  terminal: Terminal,
): Promise<number> {
  let isInterrupted = false;
  const interrupt = (): void => {
    isInterrupted = true;
  };
  process.once('SIGINT', interrupt);
  const begun = performance.now();
  const elapsed = (): number => (performance.now() - begun) / 1000;
  try {
    for (let slice = 0; !isInterrupted && campaign.execs < runs && elapsed() < seconds; slice++) {
      const until = performance.now() + SLICE_MS;
      while (campaign.execs < runs && performance.now() < until) campaign.step();
      if (slice % PROGRESS_EVERY === 0) terminal.progress(progressLine(campaign, elapsed()));
      // Lets a signal in.
      await new Promise((resolve) => setImmediate(resolve));
    }
  } finally {
    process.removeListener('SIGINT', interrupt);
  }
  return elapsed();
}

function progressLine(
  { execs, tally, corpus, coverage, findings }: Campaign,
  seconds: number,
): string {
  const rate = Math.round(tally.exits / Math.max(seconds, 0.001));
  return (
    `${execs} inputs, ${tally.exits} exits (${rate}/s), ${coverage.edges} edges, ` +
    `corpus ${corpus.length}, findings ${findings.length}`
  );
}
