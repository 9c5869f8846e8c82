/**
 * A finding of a campaign for others to read, and with all that replays it.
 *
 * Source: CLI ("fuzz").
 * Invariant: its id is the hash of its smallest input, so that the same fault has the same name everywhere.
 */
import { createHash } from 'node:crypto';
import { bytesOf, type Campaign, type FuzzFinding } from './campaign.js';
import { storyOf } from './story.js';

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

export function findingReport(campaign: Campaign, finding: FuzzFinding): FindingReport {
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
