/**
 * One thread of a campaign: a campaign of its own, that takes what the others keep.
 *
 * Invariant: between two slices it hears of others; when it ends it has told all that it kept.
 * Not modelled: errors of ours; they end the thread, and the main thread hears of it.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { HarnessBug } from '../../abi/errors.js';
import { accountOf } from './account.js';
import { Campaign } from './campaign.js';
import { decode, encode } from './codec.js';
import type { FromFuzzWorker, FuzzWorkerData, ToFuzzWorker } from './worker-messages.js';

/** Inputs between two looks at what others say. */
const SLICE = 64;

const port = parentPort;
if (port === null) throw new HarnessBug('fuzz-worker runs in a thread of its own');
const post = (message: FromFuzzWorker): void => {
  port.postMessage(message);
};

const { payload, seed, mix, corpus, runs } = workerData as FuzzWorkerData;
const campaign = new Campaign({ payload, seed, mix, corpus: corpus.map((one) => decode(one)) });
let isEnding = false;
let told = 0;

port.on('message', (message: ToFuzzWorker) => {
  if (message.kind === 'end') isEnding = true;
  else for (const input of message.inputs) campaign.offer(decode(input));
});

function tell(): void {
  const { execs, tally, coverage, findings } = campaign;
  const kept = campaign.corpus.slice(told).map(encode);
  told = campaign.corpus.length;
  const progress = {
    execs,
    exits: tally.exits,
    edges: coverage.edges,
    findings: findings.length,
  };
  post({ kind: 'progress', progress, kept });
}

while (!isEnding && campaign.execs < runs) {
  for (let n = 0; n < SLICE && campaign.execs < runs; n++) campaign.step();
  tell();
  await new Promise((resolve) => setImmediate(resolve));
}
const { invariants, findings } = accountOf(campaign);
post({
  kind: 'ended',
  result: {
    execs: campaign.execs,
    counts: campaign.tally.counts(),
    classes: campaign.coverage.classes(),
    blocks: campaign.lines.ran(),
    invariants,
    findings,
  },
});
port.close();
