/**
 * What happened, in virtual time: the events a person reads and a trace viewer draws.
 *
 * Source: CLI (`timeline` of `run --json`).
 * Invariant: events are recorded in the order in which they happened on their core; a slice has a duration.
 */

import { Log, type LogMark } from './log.js';

/** How telling an event is; a short timeline keeps the highest. */
export type Weight = 1 | 2 | 3;

/** One event. `vcpu` is null for the host's own. */
export interface TimelineEvent {
  readonly tsc: number;
  readonly vcpu: number | null;
  readonly event: string;
  readonly weight: Weight;
}

/** One exit as a trace viewer draws it. */
export interface ExitSlice {
  readonly vcpu: number;
  readonly name: string;
  readonly outcome: string;
  readonly tscBegin: number;
  readonly tscEnd: number;
  readonly sequence: number;
}

/** Who holds the vCPUs: KVM with the Caretaker, the Caretaker alone, and meanwhile no kernel or the next one. */
export type PhaseName = 'attached' | 'detached' | 'no-kernel' | 'next-kernel';

/** A stretch of a run in which that does not change. */
export interface Phase {
  readonly name: PhaseName;
  readonly tscStart: number;
  readonly tscEnd: number;
}

interface PhaseBegin {
  readonly name: PhaseName;
  readonly tsc: number;
}

/** A moment of the timeline. */
export interface TimelineState {
  readonly events: LogMark<TimelineEvent>;
  readonly phases: LogMark<PhaseBegin>;
  readonly slices: LogMark<ExitSlice> | null;
}

export class Timeline {
  readonly #events = new Log<TimelineEvent>();
  readonly #phases = new Log<PhaseBegin>();
  readonly #slices: Log<ExitSlice> | null;

  /** With `wantsSlices` every exit is kept too. */
  constructor(wantsSlices: boolean) {
    this.#slices = wantsSlices ? new Log() : null;
  }

  add(tsc: number, vcpu: number | null, event: string, weight: Weight = 2): void {
    this.#events.push({ tsc, vcpu, event, weight });
  }

  addSlice(slice: ExitSlice): void {
    this.#slices?.push(slice);
  }

  /** A phase begins; it lasts until the next one does. */
  enter(tsc: number, name: PhaseName): void {
    this.#phases.push({ name, tsc });
  }

  /** Phases that lasted, in order, the last one until `tscEnd`. */
  phases(tscEnd: number): readonly Phase[] {
    const begins = this.#phases.items;
    return begins
      .map(({ name, tsc }, index) => {
        return { name, tscStart: tsc, tscEnd: begins[index + 1]?.tsc ?? tscEnd };
      })
      .filter((phase) => phase.tscEnd > phase.tscStart);
  }

  /** The phase that began last, null before the first. */
  get phase(): PhaseName | null {
    return this.#phases.items.at(-1)?.name ?? null;
  }

  /** How often any phase has begun. */
  get phaseCount(): number {
    return this.#phases.length;
  }

  /** The phases that began from the `from`-th on, up to and without the `to`-th. */
  begun(from: number, to: number): readonly PhaseName[] {
    return this.#phases.items.slice(from, to).map(({ name }) => name);
  }

  /** How many events there are. */
  get eventCount(): number {
    return this.#events.length;
  }

  get wantsSlices(): boolean {
    return this.#slices !== null;
  }

  /** Every exit, empty unless asked for. */
  get slices(): readonly ExitSlice[] {
    return this.#slices?.items ?? [];
  }

  /** The `count` most telling events in order of time. */
  mostTelling(count: number): readonly TimelineEvent[] {
    const sorted = [...this.#events.items].sort((a, b) => a.tsc - b.tsc);
    if (sorted.length <= count) return sorted;
    const kept = new Set(
      sorted
        .map((event, index) => ({ event, index }))
        .sort((a, b) => {
          const byWeight = b.event.weight - a.event.weight;
          return byWeight === 0 ? a.index - b.index : byWeight;
        })
        .slice(0, count)
        .map(({ index }) => index),
    );
    return sorted.filter((_, index) => kept.has(index));
  }

  state(): TimelineState {
    return {
      events: this.#events.mark(),
      phases: this.#phases.mark(),
      slices: this.#slices?.mark() ?? null,
    };
  }

  restore({ events, phases, slices }: TimelineState): void {
    this.#events.restore(events);
    this.#phases.restore(phases);
    if (slices !== null) this.#slices?.restore(slices);
  }
}
