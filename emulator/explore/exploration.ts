/**
 * Every event at every instruction boundary of every exit, not sampled.
 *
 * Source: DESIGN ("Exact points"); partial-order reduction after Godefroid, "Partial-Order Methods for the Verification of
 * Concurrent Systems": an event is tried once for each stretch of instructions that it commutes with.
 * Invariant: every boundary counts as a point of each event, and belongs to a branch that was run.
 */
import { Ledger } from '../machine/ledger.js';
import type { Finding } from '../vmx/stop-reason.js';
import { CASES, type ExploreCase } from './cases.js';
import { EVENTS, FOOTPRINT, type ExploreEvent } from './events.js';
import { Ground } from './ground.js';
import type { Happening, Schedule } from './schedule.js';
import { STATES, type ExploreState } from './states.js';
import type { Boundary } from './trace.js';

/** What is explored. */
export interface ExplorationSettings {
  readonly payload: Uint8Array;
  readonly seed: number;
  readonly events: readonly ExploreEvent[];
  /** Reasons as tables print them, null for all. */
  readonly reasons: ReadonlySet<string> | null;
  /** Events in one branch: 1, or 2 for pairs. */
  readonly depth: 1 | 2;
  /** Tries every boundary by itself; only for the proof that the reduction loses nothing. */
  readonly withoutReduction?: boolean;
}

/** A finding, and the branch that showed it first. */
export interface ExploreFinding {
  readonly schedule: Schedule;
  /** Where the last event came: the instruction that it came before. */
  readonly rip: bigint;
  /** The CCB of the instance that it was found in, by which an address in the file is told. */
  readonly ccb: bigint;
  readonly finding: Finding;
  /** Branches of the same exit and event that show it at the same address. */
  branches: number;
}

/** Points by event. */
type Row = Record<string, number>;

export class Exploration {
  readonly settings: ExplorationSettings;
  /** Points by reason and event. */
  readonly matrix = new Map<string, Row>();
  readonly findings: ExploreFinding[] = [];
  /** Checks and findings of all branches. */
  readonly invariants = new Ledger();
  points = 0;
  runs = 0;
  /** Points and branches of events outside the contract. */
  readonly outside = { points: 0, runs: 0 };
  readonly #known = new Map<string, ExploreFinding>();
  #ground: Ground | null = null;

  constructor(settings: ExplorationSettings) {
    this.settings = settings;
  }

  /** Explores one exit after the other; yields the name of what comes next. */
  *run(): Generator<string, void, void> {
    for (const state of STATES) {
      const cases = this.#casesIn(state);
      const events = this.#eventsIn(state);
      if (cases.length === 0 || events.length === 0) continue;
      for (const exit of cases) {
        yield `${state.name}: ${exit.reason}`;
        yield* this.#explore(this.#groundOf(state), exit, events);
      }
    }
  }

  /** Gives back what the last state's machine holds. */
  dispose(): void {
    for (const { engine } of this.#ground?.stage.machine.cores ?? []) engine.dispose();
    this.#ground = null;
  }

  *#explore(
    ground: Ground,
    exit: ExploreCase,
    events: readonly ExploreEvent[],
  ): Generator<string, void, void> {
    const boundaries = ground.trace(exit, []);
    for (const event of events) {
      for (const stretch of this.#stretches(boundaries, event, 0)) {
        const first = { event, instruction: stretch.last };
        this.#branch(ground, exit, [first], boundaries[stretch.last]!, stretch.length);
        if (this.settings.depth === 1) continue;
        yield `${ground.state.name}: ${exit.reason}, ${event.name}@${stretch.last}`;
        this.#second(ground, exit, first, events, stretch.length);
      }
    }
  }

  #count(exit: ExploreCase, events: string, points: number): void {
    this.points += points;
    const row = this.matrix.get(exit.reason) ?? {};
    row[events] = (row[events] ?? 0) + points;
    this.matrix.set(exit.reason, row);
  }

  /** Every second event at every boundary from the first one on, which led elsewhere from there. */
  #second(
    ground: Ground,
    exit: ExploreCase,
    first: Happening,
    events: readonly ExploreEvent[],
    length: number,
  ): void {
    const boundaries = ground.trace(exit, [first]);
    for (const event of events) {
      for (const stretch of this.#stretches(boundaries, event, first.instruction)) {
        const second = { event, instruction: stretch.last };
        const weight = length * stretch.length;
        this.#branch(ground, exit, [first, second], boundaries[stretch.last]!, weight);
      }
    }
  }

  /** Boundaries from `from` on that are one case for the event, by the last of each. */
  #stretches(
    boundaries: readonly Boundary[],
    event: ExploreEvent,
    from: number,
  ): readonly { readonly last: number; readonly length: number }[] {
    const isSingle = event.footprint === FOOTPRINT.ANY || this.settings.withoutReduction === true;
    const stretches: { last: number; length: number }[] = [];
    let length = 0;
    for (let at = from; at < boundaries.length; at++) {
      length++;
      const isLast = at === boundaries.length - 1;
      const ends = isSingle || isLast || (boundaries[at]!.dependsOn & event.footprint) !== 0;
      if (!ends) continue;
      stretches.push({ last: at, length });
      length = 0;
    }
    return stretches;
  }

  #branch(
    ground: Ground,
    exit: ExploreCase,
    happenings: readonly Happening[],
    { rip }: Boundary,
    points: number,
  ): void {
    const findings = ground.branch(exit, happenings);
    const names = happenings.map(({ event }) => event.name).join('+');
    this.runs++;
    if (happenings.some(({ event }) => event.isOutsideContract)) {
      this.outside.points += points;
      this.outside.runs++;
    } else {
      this.invariants.add(ground.stage.machine.ledger);
    }
    this.#count(exit, names, points);
    for (const finding of findings) {
      const key = `${exit.reason}:${names}:${finding.invariant}:${String(finding.address)}`;
      const known = this.#known.get(key);
      if (known !== undefined) {
        known.branches++;
        continue;
      }
      const fresh: ExploreFinding = {
        schedule: { state: ground.state, exit, happenings },
        rip,
        ccb: ground.stage.lane.vcpu.ccb,
        finding,
        branches: 1,
      };
      this.#known.set(key, fresh);
      this.findings.push(fresh);
    }
  }

  #groundOf(state: ExploreState): Ground {
    if (this.#ground?.state === state) return this.#ground;
    this.dispose();
    this.#ground = new Ground(this.settings.payload, state, this.settings.seed);
    return this.#ground;
  }

  #casesIn({ reasons: ofState }: ExploreState): readonly ExploreCase[] {
    const { reasons } = this.settings;
    return CASES.filter(
      ({ basic, reason }) =>
        (ofState === null || ofState.includes(basic)) && (reasons === null || reasons.has(reason)),
    );
  }

  #eventsIn({ isAttached, events: ofState }: ExploreState): readonly ExploreEvent[] {
    return this.settings.events.filter(
      ({ name, whenAttached, whenDetached }) =>
        (isAttached ? whenAttached : whenDetached) && (ofState?.includes(name) ?? true),
    );
  }
}

/** The events that the contract allows. */
export const CONTRACT_EVENTS: readonly ExploreEvent[] = EVENTS.filter(
  ({ isOutsideContract }) => !isOutsideContract,
);
