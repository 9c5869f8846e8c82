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
import { Ledger, type InvariantResult } from '../machine/ledger.js';
import type { Exploration, ExploreFinding } from './exploration.js';
import { actorsName } from './interleave/casts.js';
import type { InterleavingFinding, Interleavings } from './interleave/interleavings.js';
import { formatSceneSchedule, type SceneSchedule } from './interleave/scene-schedule.js';
import { caseName, formatSchedule } from './schedule.js';

/** Every interleaving of what several actors share, a row for those that act together. */
export interface InterleavingsReport {
  readonly tso: boolean;
  readonly executions: number;
  readonly steps: number;
  readonly seconds: number;
  readonly casts: readonly {
    readonly state: string;
    readonly actors: string;
    /** Classes of interleavings that were run to their end. */
    readonly executions: number;
    /** Executions that were given up, all that could follow being explored elsewhere. */
    readonly redundant: number;
    readonly steps: number;
    /** Whether that is all of them. */
    readonly isComplete: boolean;
  }[];
}

/** A finding as the document has it. */
export interface ExploreFindingReport {
  readonly reason: string;
  /** Events in their order, joined by `+`; of an interleaving, who acts. */
  readonly event: string;
  readonly state: string;
  /** Instructions between HOST_RIP and the last event; of an interleaving, steps of its schedule. */
  readonly instruction: number;
  /** Of the instruction that the event came before, in the file; of an interleaving, where it was found. */
  readonly address: string;
  readonly symbol: string | null;
  readonly invariant: string;
  readonly message: string;
  readonly schedule: string;
  /** Branches of this exit and event, or interleavings, that show the same. */
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
  /** Null when none were asked for. */
  readonly interleavings: InterleavingsReport | null;
  /** Events that the contract forbids, when they were asked for. */
  readonly outsideContract: {
    readonly points: number;
    readonly runs: number;
    readonly findings: readonly ExploreFindingReport[];
  };
}

/** Reports on an exploration that took so many seconds, and on the interleavings of those that act together. */
export function explorationReport(
  exploration: Exploration,
  seconds: number,
  interleavings: { readonly of: Interleavings; readonly seconds: number } | null = null,
): ExplorationReport {
  const { settings, findings } = exploration;
  const invariants = new Ledger();
  invariants.add(exploration.invariants);
  if (interleavings !== null) invariants.add(interleavings.of.invariants);
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
    invariants: invariants.results(),
    findings: [
      ...report(findings.filter((finding) => !isOutside(finding))),
      ...(interleavings?.of.findings ?? []).map((found) => interleavingReport(image, found)),
    ],
    interleavings: interleavings && interleavingsReport(interleavings.of, interleavings.seconds),
    outsideContract: {
      ...exploration.outside,
      findings: report(findings.filter(isOutside)),
    },
  };
}

function findingReport(image: CaretakerImage, found: ExploreFinding): ExploreFindingReport {
  const { schedule, finding, branches, rip, ccb } = found;
  return {
    reason: schedule.exit.reason,
    event: schedule.happenings.map(({ event }) => event.name).join('+'),
    state: schedule.state.name,
    instruction: schedule.happenings.at(-1)?.instruction ?? 0,
    ...placeOf(image, u64(rip - ccb + image.ccb.address)),
    invariant: finding.invariant,
    message: finding.message,
    schedule: formatSchedule(schedule),
    branches,
  };
}

function interleavingsReport(of: Interleavings, seconds: number): InterleavingsReport {
  const casts = of.results.map(({ cast, executions, redundant, steps, isComplete }) => ({
    state: cast.state.name,
    actors: actorsName(cast),
    executions,
    redundant,
    steps,
    isComplete,
  }));
  const sum = (what: 'executions' | 'steps'): number =>
    casts.reduce((total, cast) => total + cast[what], 0);
  const { isTso } = of.settings;
  return { tso: isTso, executions: sum('executions'), steps: sum('steps'), seconds, casts };
}

function interleavingReport(
  image: CaretakerImage,
  { schedule, finding, ccb, executions }: InterleavingFinding,
): ExploreFindingReport {
  const { cast } = schedule;
  return {
    reason: cast.exits[0]!.reason,
    event: actorsName(cast),
    state: cast.state.name,
    instruction: schedule.steps.length,
    ...placeOf(image, u64(finding.address - ccb + image.ccb.address)),
    invariant: finding.invariant,
    message: finding.message,
    schedule: formatSceneSchedule(schedule),
    branches: executions,
  };
}

function placeOf(
  image: CaretakerImage,
  address: bigint,
): Pick<ExploreFindingReport, 'address' | 'symbol'> {
  const symbol = symbolise(image, address);
  return {
    address: hex(address),
    symbol: symbol === undefined ? null : `${symbol.name}+${hex(symbol.offset)}`,
  };
}

/** What a schedule of several actors says, a line each. */
export function sceneStory({ cast, isTso, steps }: SceneSchedule): readonly string[] {
  const names = [
    ...cast.exits.map(({ name }, id) => `vCPU ${id} exits: ${name}`),
    ...cast.hosts.map(({ script, vcpu }) => `the host, to vCPU ${vcpu}: ${script.describe}`),
  ];
  return [
    `begins: ${cast.state.name}`,
    ...names,
    ...(isTso ? ['stores wait in store buffers (x86-TSO)'] : []),
    `${steps.length} steps in this order, then each to its end: ${formatSceneSchedule({ cast, isTso, steps }).split(':')[2]!}`,
  ];
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
