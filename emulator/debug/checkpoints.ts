/**
 * Snapshots of the run so far, for short ways back: dense behind the machine, sparser the older they are.
 *
 * Taking one costs as much as running some ten thousand instructions, so they lie that far apart, and on a long way to a
 * known time further still.
 * Source: DESIGN ("Snapshots").
 * Invariant: a checkpoint that is offered can be restored now: same machine, same structure of the host, same loop; what
 * was changed before it is known by its place on the tape.
 */
import type { Machine } from '../machine/machine.js';
import type { MachineSnapshot } from '../machine/snapshot.js';
import type { StretchMark } from './stretches.js';

/** Boundaries between two checkpoints at least; the part of a way that may lie behind the last; how many are kept. */
const DISTANCE = 16_000;
const PART = 8;
const KEPT = 64;

/** A time to come back to. */
export interface Checkpoint {
  readonly time: number;
  readonly snapshot: MachineSnapshot;
  readonly mark: StretchMark;
  /** Entries of the tape that had been applied. */
  readonly applied: number;
  /** Addresses that events interrupted right before. */
  readonly taken: readonly bigint[];
}

export class Checkpoints {
  #all: Checkpoint[] = [];
  /** Before this time none is due while the structure of the host is this one. */
  #dueAt = 0;
  #epoch = -1;

  /** Another machine. */
  clear(): void {
    this.#all = [];
    this.#dueAt = 0;
  }

  /** Whether one is due at a time, on the way to `target`. */
  isDue(time: number, target: number, machine: Machine): boolean {
    if (time < this.#dueAt && machine.structureEpoch === this.#epoch) return false;
    const nearest = this.before(time, machine)?.time ?? -Infinity;
    const distance = Math.max(DISTANCE, (target - time) / PART);
    this.#epoch = machine.structureEpoch;
    this.#dueAt = nearest + distance;
    return time >= this.#dueAt;
  }

  add(checkpoint: Checkpoint): void {
    this.#all.push(checkpoint);
    this.#all.sort((a, b) => a.time - b.time);
    this.#dueAt = 0;
    if (this.#all.length <= KEPT) return;
    // Every other one of the older half: the distance grows with the age.
    this.#all = this.#all.filter((_, index) => index >= KEPT / 2 || index % 2 === 0);
  }

  /** Those behind a time are of a run that will not be. */
  forget(time: number): void {
    this.#all = this.#all.filter((one) => one.time <= time);
    this.#dueAt = 0;
  }

  /** The machine has gone back, so that what is due is told anew. */
  restored(): void {
    this.#dueAt = 0;
  }

  /** The last one at or before a time that the machine can go back to in a loop: the one at hand, if nothing is said. */
  before(
    time: number,
    machine: Machine,
    activation: number = machine.activation,
  ): Checkpoint | null {
    let found: Checkpoint | null = null;
    for (const one of this.#all) {
      if (one.time > time) break;
      const { snapshot } = one;
      if (snapshot.epoch === machine.structureEpoch && snapshot.activation === activation)
        found = one;
    }
    return found;
  }
}
