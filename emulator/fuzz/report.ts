/**
 * What a campaign has to say, as plain data: the document of `fuzz --json`.
 *
 * Source: CLI ("fuzz").
 * Invariant: a finding's id is the hash of its smallest input, so that the same fault has the same name everywhere.
 */
import { createHash } from 'node:crypto';
import type { InvariantResult } from '../machine/ledger.js';
import { bytesOf, type Campaign, type FuzzFinding } from './campaign.js';
import { storyOf } from './story.js';
import type { TallyRow } from './tally.js';

/** A finding as the document has it. */
export interface FindingReport {
  readonly id: string;
  readonly invariant: string;
  /** In the file, before relocation. */
  readonly address: bigint;
  /** Where it was written to, null when nobody asked for files. */
  readonly file: string | null;
  readonly story: readonly string[];
  /** The smallest input, as hexadecimal. */
  readonly input: string;
}

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
export function campaignReport(campaign: Campaign, seconds: number): CampaignReport {
  const { tally, lines } = campaign;
  const states = tally.rows();
  return {
    execs: campaign.execs,
    exits: tally.exits,
    seconds,
    exitsPerSecond: Math.round(tally.exits / Math.max(seconds, 1e-9)),
    seed: campaign.seed,
    corpus: campaign.corpus.length,
    coverage: {
      blocks: lines.blocks,
      edges: campaign.coverage.edges,
      lines: { executed: lines.executed, total: lines.total },
    },
    reasons: byReason(states),
    states,
    invariants: campaign.invariants.results(),
    findings: campaign.findings.map((finding) => findingReport(campaign, finding)),
  };
}

function findingReport(campaign: Campaign, finding: FuzzFinding): FindingReport {
  const bytes = bytesOf(finding);
  return {
    id: createHash('sha256').update(bytes).digest('hex').slice(0, 16),
    invariant: finding.invariant,
    address: finding.address,
    file: null,
    story: storyOf({
      ...finding,
      holdsWhen: campaign.holdsWhen(finding.invariant),
      where: campaign.placeOf(finding.address),
    }),
    input: Buffer.from(bytes).toString('hex'),
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
