/**
 * Events that wait for a virtual TSC, earliest first and in order of insertion where they are due together.
 *
 * Source: DESIGN ("Deterministic time").
 * Invariant: the order depends on nothing but (tsc, insertion); events are plain data, so a snapshot is a copy.
 */

/** Names one scheduled event; never used twice in a run. */
export type EventId = number;

/** One event and when it is due. */
export interface ScheduledEvent<Event> {
  readonly id: EventId;
  readonly tsc: number;
  readonly event: Event;
}

/** The queue as plain data. */
export interface EventQueueState<Event> {
  readonly nextId: EventId;
  readonly events: readonly ScheduledEvent<Event>[];
}

/** Kept sorted, latest first, so that taking the next one is a pop; a machine has a handful of events. */
export class EventQueue<Event> {
  #nextId: EventId = 1;
  #latestFirst: ScheduledEvent<Event>[] = [];

  /** A queue that continues where `state` was taken. */
  static fromState<Event>(state: EventQueueState<Event>): EventQueue<Event> {
    const queue = new EventQueue<Event>();
    queue.restore(state);
    return queue;
  }

  state(): EventQueueState<Event> {
    return { nextId: this.#nextId, events: this.#latestFirst.toReversed() };
  }

  restore(state: EventQueueState<Event>): void {
    this.#nextId = state.nextId;
    this.#latestFirst = state.events.toReversed();
  }

  get size(): number {
    return this.#latestFirst.length;
  }

  /** TSC of the next event, Infinity when none waits. */
  get nextTsc(): number {
    return this.#latestFirst.at(-1)?.tsc ?? Infinity;
  }

  /** Adds an event that is due at `tsc`, behind those already due then. */
  schedule(tsc: number, event: Event): EventId {
    const id = this.#nextId++;
    let low = 0;
    let high = this.#latestFirst.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#latestFirst[middle]!.tsc > tsc) low = middle + 1;
      else high = middle;
    }
    this.#latestFirst.splice(low, 0, { id, tsc, event });
    return id;
  }

  /** Takes an event back; false when it was taken or cancelled already. */
  cancel(id: EventId): boolean {
    const at = this.#latestFirst.findIndex((scheduled) => scheduled.id === id);
    if (at < 0) return false;
    this.#latestFirst.splice(at, 1);
    return true;
  }

  /** Takes the next event that is due at `now` or before, or undefined. */
  takeDue(now: number): ScheduledEvent<Event> | undefined {
    return this.nextTsc <= now ? this.#latestFirst.pop() : undefined;
  }
}
