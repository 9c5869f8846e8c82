/**
 * A campaign on several threads: each has a seed of its own, and is offered what the others keep.
 *
 * Source: CLI ("fuzz --workers").
 * Invariant: the account is the sum of the threads'; an input is kept once, a finding once for each invariant and address.
 * Not modelled: which thread comes first; several of them are no function of the seed.
 */
import { Worker } from 'node:worker_threads';
import { parseElf } from '../../loader/elf.js';
import { CCB_RULE } from '../host/kvm/ccb-rule.js';
import type { InvariantResult } from '../machine/ledger.js';
import type { FuzzInput } from '../stage/input.js';
import type { CampaignAccount } from './account.js';
import type { CampaignSettings } from './campaign.js';
import { decode, encode } from './codec.js';
import { CoverageMap } from './coverage-map.js';
import type { FindingReport } from './finding-report.js';
import { SourceLines } from './source-lines.js';
import { Tally } from './tally.js';
import type {
  FromFuzzWorker,
  FuzzWorkerData,
  ToFuzzWorker,
  WorkerProgress,
  WorkerResult,
} from './worker-messages.js';

/** Seeds of threads lie far from each other. */
const SEED_STRIDE = 0x9e37_79b9;
const NOTHING: WorkerProgress = { execs: 0, exits: 0, edges: 0, findings: 0 };

export class FuzzWorkers {
  readonly #settings: CampaignSettings;
  readonly #workers: readonly Worker[];
  readonly #progress: WorkerProgress[];
  /** Inputs that showed something new, by their bytes. */
  readonly #kept = new Map<string, FuzzInput>();
  readonly #results: Promise<readonly WorkerResult[]>;

  /** `runs` are those of all threads together. */
  constructor(settings: CampaignSettings, count: number, runs: number) {
    this.#settings = settings;
    const { payload, mix } = settings;
    const corpus = settings.corpus.map(encode);
    this.#workers = Array.from({ length: count }, (_, index) => {
      const share = Math.floor(runs / count) + (index < runs % count ? 1 : 0);
      const workerData: FuzzWorkerData = {
        payload,
        seed: (settings.seed + index * SEED_STRIDE) >>> 0,
        mix,
        corpus,
        runs: runs === Infinity ? Infinity : share,
      };
      return new Worker(new URL('./fuzz-worker.js', import.meta.url), { workerData });
    });
    this.#progress = this.#workers.map(() => NOTHING);
    this.#results = Promise.all(this.#workers.map((worker, index) => this.#follow(worker, index)));
  }

  /** How far all of them are together; edges are those of the one that has most. */
  get progress(): WorkerProgress & { readonly corpus: number } {
    const sum = (of: (one: WorkerProgress) => number): number =>
      this.#progress.reduce((total, one) => total + of(one), 0);
    return {
      execs: sum(({ execs }) => execs),
      exits: sum(({ exits }) => exits),
      edges: Math.max(...this.#progress.map(({ edges }) => edges)),
      findings: sum(({ findings }) => findings),
      corpus: this.#kept.size,
    };
  }

  /** Asks all threads to end; their account then comes. */
  end(): void {
    for (const worker of this.#workers) send(worker, { kind: 'end' });
  }

  /** The account of all of them, once they have ended. @throws what a thread has thrown. */
  async account(): Promise<CampaignAccount> {
    const results = await this.#results;
    const lines = new SourceLines(parseElf(this.#settings.payload, CCB_RULE));
    const tally = new Tally();
    const coverage = new CoverageMap(results[0]!.classes.length);
    for (const { blocks, counts, classes } of results) {
      lines.add(blocks);
      tally.merge(counts);
      coverage.merge(classes);
    }
    return {
      seed: this.#settings.seed,
      execs: results.reduce((sum, { execs }) => sum + execs, 0),
      exits: tally.exits,
      corpus: [...this.#kept.values()],
      edges: coverage.edges,
      lines,
      states: tally.rows(),
      invariants: together(results.map(({ invariants }) => invariants)),
      findings: onceEach(results.flatMap(({ findings }) => findings)),
    };
  }

  #follow(worker: Worker, index: number): Promise<WorkerResult> {
    return new Promise((resolve, reject) => {
      worker.on('error', (error) => {
        this.end();
        reject(error);
      });
      worker.on('message', (message: FromFuzzWorker) => {
        if (message.kind === 'ended') {
          resolve(message.result);
          return;
        }
        this.#progress[index] = message.progress;
        this.#share(worker, message.kept);
      });
    });
  }

  /** What is new to the campaign goes to the other threads. */
  #share(from: Worker, kept: readonly Uint8Array[]): void {
    const inputs = kept.filter((bytes) => {
      const key = Buffer.from(bytes).toString('latin1');
      if (this.#kept.has(key)) return false;
      this.#kept.set(key, decode(bytes));
      return true;
    });
    if (inputs.length === 0) return;
    for (const worker of this.#workers)
      if (worker !== from) send(worker, { kind: 'offer', inputs });
  }
}

const send = (worker: Worker, message: ToFuzzWorker): void => {
  worker.postMessage(message);
};

/** One row an invariant: held when it held for all, with the first that has something to say. */
function together(accounts: readonly (readonly InvariantResult[])[]): readonly InvariantResult[] {
  return accounts[0]!.map(({ id }, row) => {
    const rows = accounts.map((account) => account[row]!);
    const broken = rows.find(({ held }) => !held);
    const checked = rows.reduce((sum, one) => sum + one.checked, 0);
    const silent = checked === 0 ? rows[0]!.detail : '';
    return { id, held: broken === undefined, checked, detail: broken?.detail ?? silent };
  });
}

/** The shortest of those that broke the same invariant at the same address. */
function onceEach(findings: readonly FindingReport[]): readonly FindingReport[] {
  const known = new Map<string, FindingReport>();
  for (const finding of findings) {
    const key = `${finding.invariant}@${String(finding.address)}`;
    const before = known.get(key);
    if (before === undefined || finding.input.length < before.input.length) known.set(key, finding);
  }
  return [...known.values()];
}
