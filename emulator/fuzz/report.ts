/**
 * What a campaign has to say, as plain data: the document of `fuzz --json`.
 *
 * Source: CLI ("fuzz").
 * Invariant: a function of the campaign's account and of the time that it took.
 */
import type { InvariantResult } from '../machine/ledger.js';
import type { CampaignAccount } from './account.js';
import type { FindingReport } from './finding-report.js';
import type { TallyRow } from './tally.js';

export interface CampaignReport {
  readonly execs: number;
  readonly exits: number;
  readonly seconds: number;
  readonly exitsPerSecond: number;
  readonly seed: number;
  readonly corpus: number;
  readonly coverage: {
    readonly blocks: number;
    readonly edges: number;
    readonly lines: { readonly executed: number; readonly total: number };
  };
  readonly reasons: Readonly<Record<string, ReasonReport>>;
  readonly states: readonly TallyRow[];
  readonly invariants: readonly InvariantResult[];
  readonly findings: readonly FindingReport[];
}

/** Exits of one reason, over both states. */
export interface ReasonReport {
  readonly runs: number;
  readonly fastpath: number;
  readonly routed: number;
  readonly blocked: number;
}

/** Reports on a campaign that took so many seconds. */
export function campaignReport(account: CampaignAccount, seconds: number): CampaignReport {
  const { seed, execs, exits, corpus, edges, lines, states, invariants, findings } = account;
  return {
    execs,
    exits,
    seconds,
    exitsPerSecond: Math.round(exits / Math.max(seconds, 1e-9)),
    seed,
    corpus: corpus.length,
    coverage: {
      blocks: lines.blocks,
      edges,
      lines: { executed: lines.executed, total: lines.total },
    },
    reasons: byReason(states),
    states,
    invariants,
    findings,
  };
}

function byReason(rows: readonly TallyRow[]): Readonly<Record<string, ReasonReport>> {
  const reasons: Record<string, ReasonReport> = {};
  for (const { reason, fastpath, routed, blocked } of rows) {
    const sum = reasons[reason] ?? { runs: 0, fastpath: 0, routed: 0, blocked: 0 };
    reasons[reason] = {
      runs: sum.runs + fastpath + routed + blocked,
      fastpath: sum.fastpath + fastpath,
      routed: sum.routed + routed,
      blocked: sum.blocked + blocked,
    };
  }
  return reasons;
}
