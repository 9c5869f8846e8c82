/**
 * What an exploration has to say, as plain data: the document of `explore --json`.
 *
 * Source: CLI ("explore").
 * Invariant: what is outside the contract is told apart, and decides nothing.
 */
import { hex, u64 } from '../../abi/uint.js';
import { parseElf } from '../../loader/elf.js';
import type { CaretakerImage } from '../../loader/image.js';
import { symbolise } from '../../loader/symbols.js';
import { CCB_RULE } from '../host/kvm/ccb-rule.js';
import type { InvariantResult } from '../machine/ledger.js';
import type { Exploration, ExploreFinding } from './exploration.js';
import { caseName, formatSchedule } from './schedule.js';

/** A finding as the document has it. */
export interface ExploreFindingReport {
  readonly reason: string;
  /** Events in their order, joined by `+`. */
  readonly event: string;
  readonly state: string;
  /** Instructions between HOST_RIP and the last event. */
  readonly instruction: number;
  /** Of the instruction that the event came before, in the file. */
  readonly address: string;
  readonly symbol: string | null;
  readonly invariant: string;
  readonly message: string;
  readonly schedule: string;
  /** Branches of this exit and event that show the same. */
  readonly branches: number;
}

export interface ExplorationReport {
  readonly points: number;
  readonly runs: number;
  readonly seconds: number;
  readonly seed: number;
  readonly depth: number;
  readonly matrix: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly invariants: readonly InvariantResult[];
  readonly findings: readonly ExploreFindingReport[];
  /** Events that the contract forbids, when they were asked for. */
  readonly outsideContract: {
    readonly points: number;
    readonly runs: number;
    readonly findings: readonly ExploreFindingReport[];
  };
}

/** Reports on an exploration that took so many seconds. */
export function explorationReport(exploration: Exploration, seconds: number): ExplorationReport {
  const { settings, findings } = exploration;
  const image = parseElf(settings.payload, CCB_RULE);
  const isOutside = ({ schedule }: ExploreFinding): boolean =>
    schedule.happenings.some(({ event }) => event.isOutsideContract);
  const report = (of: readonly ExploreFinding[]): readonly ExploreFindingReport[] =>
    of.map((finding) => findingReport(image, finding));
  return {
    points: exploration.points,
    runs: exploration.runs,
    seconds,
    seed: settings.seed,
    depth: settings.depth,
    matrix: Object.fromEntries(exploration.matrix),
    invariants: exploration.invariants.results(),
    findings: report(findings.filter((finding) => !isOutside(finding))),
    outsideContract: {
      ...exploration.outside,
      findings: report(findings.filter(isOutside)),
    },
  };
}

function findingReport(image: CaretakerImage, found: ExploreFinding): ExploreFindingReport {
  const { schedule, finding, branches, rip, ccb } = found;
  const address = u64(rip - ccb + image.ccb.address);
  const symbol = symbolise(image, address);
  return {
    reason: schedule.exit.reason,
    event: schedule.happenings.map(({ event }) => event.name).join('+'),
    state: schedule.state.name,
    instruction: schedule.happenings.at(-1)?.instruction ?? 0,
    address: hex(address),
    symbol: symbol === undefined ? null : `${symbol.name}+${hex(symbol.offset)}`,
    invariant: finding.invariant,
    message: finding.message,
    schedule: formatSchedule(schedule),
    branches,
  };
}

/** What a schedule says, a line each. */
export function scheduleStory(found: Pick<ExploreFinding, 'schedule'>): readonly string[] {
  const { state, exit, happenings } = found.schedule;
  return [
    `begins: ${state.name}`,
    `the guest exits: ${caseName(exit)}`,
    ...happenings.map(
      ({ event, instruction }) =>
        `after ${instruction} ${instruction === 1 ? 'instruction' : 'instructions'}: ${event.describe}`,
    ),
  ];
}
