/**
 * What is known of a campaign, whether one thread ran it or several: what a report, a corpus and a tracefile are made of.
 *
 * Source: CLI ("fuzz").
 * Invariant: plain but for its source lines; the account of several threads is the sum of theirs.
 */
import type { InvariantResult } from '../machine/ledger.js';
import type { FuzzInput } from '../stage/input.js';
import type { Campaign } from './campaign.js';
import { findingReport, type FindingReport } from './finding-report.js';
import type { SourceLines } from './source-lines.js';
import type { TallyRow } from './tally.js';

export interface CampaignAccount {
  readonly seed: number;
  readonly execs: number;
  readonly exits: number;
  /** Inputs that showed something new. */
  readonly corpus: readonly FuzzInput[];
  readonly edges: number;
  readonly lines: SourceLines;
  readonly states: readonly TallyRow[];
  readonly invariants: readonly InvariantResult[];
  readonly findings: readonly FindingReport[];
}

/** The account of a campaign on one thread. */
export function accountOf(campaign: Campaign): CampaignAccount {
  const { seed, execs, corpus, lines, tally, coverage, invariants, findings } = campaign;
  return {
    seed,
    execs,
    exits: tally.exits,
    corpus,
    edges: coverage.edges,
    lines,
    states: tally.rows(),
    invariants: invariants.results(),
    findings: findings.map((finding) => findingReport(campaign, finding)),
  };
}
