/** What the threads of a campaign tell each other. */
import type { InvariantResult } from '../machine/ledger.js';
import type { FindingReport } from './finding-report.js';
import type { Mix } from './campaign.js';

/** What a thread begins with. */
export interface FuzzWorkerData {
  readonly payload: Uint8Array;
  readonly seed: number;
  readonly mix: Mix;
  /** Encoded inputs to begin with. */
  readonly corpus: readonly Uint8Array[];
  /** Inputs after which it ends. */
  readonly runs: number;
}

/** To a thread. */
export type ToFuzzWorker =
  /** Inputs with which another thread found something new. */
  { readonly kind: 'offer'; readonly inputs: readonly Uint8Array[] } | { readonly kind: 'end' };

/** How far a thread is. */
export interface WorkerProgress {
  readonly execs: number;
  readonly exits: number;
  readonly edges: number;
  readonly findings: number;
}

/** All that a thread knows when it ends. */
export interface WorkerResult {
  readonly execs: number;
  readonly counts: Float64Array;
  readonly classes: Uint8Array;
  readonly blocks: readonly bigint[];
  readonly invariants: readonly InvariantResult[];
  readonly findings: readonly FindingReport[];
}

/** From a thread. */
export type FromFuzzWorker =
  /** Now and then: how far it is, and the inputs that showed it something new since it last said so. */
  | {
      readonly kind: 'progress';
      readonly progress: WorkerProgress;
      readonly kept: readonly Uint8Array[];
    }
  | { readonly kind: 'ended'; readonly result: WorkerResult };
