/**
 * Snapshots of the run so far, for short ways back: dense behind the machine, sparser the older they are.
 *
 * Source: DESIGN ("Snapshots").
 * Invariant: a checkpoint that is offered can be restored now: same machine, same structure of the host, same loop; what
 * was changed before it is known by its place on the tape.
 */
import type { Machine } from '../machine/machine.js';
import type { MachineSnapshot } from '../machine/snapshot.js';
import type { StretchMark } from './stretches.js';

/** Boundaries between two checkpoints, and how many are kept. */
const DISTANCE = 4_000;
const KEPT = 64;

/** A time to come back to. */
export interface Checkpoint {
  readonly time: number;
  readonly snapshot: MachineSnapshot;
  readonly mark: StretchMark;
  /** Entries of the tape that had been applied. */
  readonly applied: number;
}

export class Checkpoints {
  #all: Checkpoint[] = [];

  /** Another machine. */
  clear(): void {
    this.#all = [];
  }

  /** Whether one is due at a time. */
  isDue(time: number): boolean {
    let nearest = -Infinity;
    for (const one of this.#all) if (one.time <= time) nearest = Math.max(nearest, one.time);
    return time - nearest >= DISTANCE;
  }

  add(checkpoint: Checkpoint): void {
    this.#all.push(checkpoint);
    this.#all.sort((a, b) => a.time - b.time);
    if (this.#all.length <= KEPT) return;
    // Every other one of the older half: the distance grows with the age.
    this.#all = this.#all.filter((_, index) => index >= KEPT / 2 || index % 2 === 0);
  }

  /** Those behind a time are of a run that will not be. */
  forget(time: number): void {
    this.#all = this.#all.filter((one) => one.time <= time);
  }

  /** The last one at or before a time that the machine can go back to now. */
  before(time: number, machine: Machine): Checkpoint | null {
    let found: Checkpoint | null = null;
    for (const one of this.#all) {
      if (one.time > time) break;
      const { epoch, activation } = one.snapshot;
      if (epoch === machine.structureEpoch && activation === machine.activation) found = one;
    }
    return found;
  }
}
