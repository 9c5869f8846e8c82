/**
 * Every interleaving of a system's processes, one for each class of those that differ only in the order of independent
 * steps.
 *
 * Source: Abdulla, Aronis, Jonsson, Sagonas, "Optimal Dynamic Partial Order Reduction" (source sets), with the sleep sets of
 * Godefroid. A race is a pair of dependent steps of two processes that nothing in between orders; where its reversal is not
 * explored from the earlier step's state, a process that begins it is added there.
 * Invariant: processes are deterministic and every execution ends; a step is enabled by steps that it depends on, and by no
 * other process's step disabled again. Then each class is explored at least once, and none is run to its end twice.
 */
import { areDependent, type Footprint } from './footprint.js';

/** What is explored: a system that can be put back to its beginning and led through one step at a time. */
export interface ExploredSystem {
  reset(): void;
  /** Processes that can take a step, the preferred one first; none when the execution is over. */
  enabled(): readonly number[];
  /** Takes the next step of an enabled process; what it touched. */
  step(process: number): Footprint;
}

/** How far an exploration goes. */
export interface SearchSettings {
  /** Tries every order of all steps; only for the proof that the reduction loses nothing. */
  readonly withoutReduction?: boolean;
  /** Executions after which it is given up. */
  readonly limit: number;
}

/** What an exploration has done, whole or not. */
export interface SearchResult {
  /** Executions that were run to their end. */
  executions: number;
  /** Executions that were given up because all that could follow was explored elsewhere. */
  redundant: number;
  steps: number;
  /** Whether nothing is left to explore. */
  isComplete: boolean;
}

/** A step that was taken. */
interface Taken {
  readonly process: number;
  readonly footprint: Footprint;
  /** For each process how many of its steps happen before this one's end, its own included. */
  readonly clock: Int32Array;
  /** This step is so many'th of its process, from 1. */
  readonly ordinal: number;
}

/** A state on the way, and what was explored from it. */
interface Node {
  readonly enabled: readonly number[];
  /** Processes to explore from here. */
  readonly wanted: Set<number>;
  /** Processes whose next step from here leads to nothing new, with what that step touches. */
  readonly sleeping: Map<number, Footprint>;
  taken: Taken;
}

/** Explores; yields the processes in the order of their steps at the end of each execution, the system in its last state. */
export class PartialOrderSearch {
  readonly result: SearchResult = { executions: 0, redundant: 0, steps: 0, isComplete: false };
  readonly #system: ExploredSystem;
  readonly #settings: SearchSettings;
  readonly #processes: number;
  readonly #path: Node[] = [];

  constructor(system: ExploredSystem, processes: number, settings: SearchSettings) {
    this.#system = system;
    this.#processes = processes;
    this.#settings = settings;
  }

  *run(): Generator<readonly number[], void, void> {
    const { result } = this;
    this.#system.reset();
    do {
      if (!this.#extend()) result.redundant++;
      else {
        result.executions++;
        yield this.#path.map(({ taken }) => taken.process);
      }
      if (result.executions + result.redundant >= this.#settings.limit) return;
    } while (this.#backtrack());
    result.isComplete = true;
  }

  /** Goes on until the execution is over; false when nothing new can follow. */
  #extend(): boolean {
    for (;;) {
      const enabled = this.#system.enabled();
      if (enabled.length === 0) return true;
      const sleeping = this.#inherited();
      const process = enabled.find((one) => !sleeping.has(one));
      if (process === undefined) return false;
      const wanted = new Set(this.#settings.withoutReduction === true ? enabled : [process]);
      this.#push({ enabled, wanted, sleeping }, process);
    }
  }

  /** What sleeps at the state behind the last step: what slept before it and is independent of it. */
  #inherited(): Map<number, Footprint> {
    const last = this.#path.at(-1);
    if (last === undefined || this.#settings.withoutReduction === true) return new Map();
    const { footprint } = last.taken;
    return new Map([...last.sleeping].filter(([, touched]) => !areDependent(touched, footprint)));
  }

  /** Goes back to the last state that has something left to explore, and takes that step; false when none has. */
  #backtrack(): boolean {
    for (;;) {
      const node = this.#path.pop();
      if (node === undefined) return false;
      const { taken, wanted, sleeping, enabled } = node;
      sleeping.set(taken.process, taken.footprint);
      const next = [...wanted].find((process) => !sleeping.has(process));
      if (next === undefined) continue;
      this.#system.reset();
      for (const before of this.#path) this.#step(before.taken.process);
      this.#push({ enabled, wanted, sleeping }, next);
      return true;
    }
  }

  #step(process: number): Footprint {
    this.result.steps++;
    return this.#system.step(process);
  }

  #push(node: Omit<Node, 'taken'>, process: number): void {
    const footprint = this.#step(process);
    const taken = this.#order(process, footprint);
    this.#path.push({ ...node, taken });
  }

  /** What happens before a step; each race that it closes is noted where it can be reversed. */
  #order(process: number, footprint: Footprint): Taken {
    const clock = new Int32Array(this.#processes);
    let ordinal = 1;
    let isOwnSeen = false;
    const races: number[] = [];
    for (let at = this.#path.length - 1; at >= 0; at--) {
      const { taken } = this.#path[at]!;
      const isOwn = taken.process === process;
      if (isOwn && !isOwnSeen) {
        isOwnSeen = true;
        ordinal = taken.ordinal + 1;
      }
      if (clock[taken.process]! >= taken.ordinal) continue;
      if (!isOwn && !areDependent(taken.footprint, footprint)) continue;
      if (!isOwn) races.push(at);
      taken.clock.forEach((count, of) => {
        if (count > clock[of]!) clock[of] = count;
      });
    }
    clock[process] = ordinal;
    if (this.#settings.withoutReduction !== true)
      for (const at of races) this.#reverse(at, process, clock);
    return { process, footprint, clock, ordinal };
  }

  /** Sees to it that from the state before step `at`, an execution begins in which `process` comes first. */
  #reverse(at: number, process: number, clock: Int32Array): void {
    const { taken: earlier, wanted, enabled } = this.#path[at]!;
    // What does not depend on the earlier step and comes before it in the reversal, the later step last.
    const between: { readonly process: number; readonly ordinal: number; clock: Int32Array }[] = [];
    for (const { taken } of this.#path.slice(at + 1))
      if (taken.clock[earlier.process]! < earlier.ordinal) between.push(taken);
    between.push({ process, ordinal: clock[process]!, clock });
    const seen = new Set<number>();
    const initials = between.filter((one, index) => {
      if (seen.has(one.process)) return false;
      seen.add(one.process);
      return between.slice(0, index).every((before) => one.clock[before.process]! < before.ordinal);
    });
    if (initials.some((one) => wanted.has(one.process))) return;
    // One that the earlier step enables cannot come before it: that race has no other order.
    const first = initials.findLast((one) => enabled.includes(one.process));
    if (first !== undefined) wanted.add(first.process);
  }
}
