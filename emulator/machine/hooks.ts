/**
 * The invariants' hooks, one flat list a point, so that an exit calls what looks at it and nothing else.
 */
import { makeInvariants } from './invariants/index.js';
import type { Invariant } from './invariants/invariant.js';
import type { Lane } from './lane.js';
import type { Ledger } from './ledger.js';

export class Hooks {
  readonly invariants: readonly Invariant[] = makeInvariants();
  readonly #exit = this.invariants.filter((i) => i.atExit !== undefined);
  readonly #resume = this.invariants.filter((i) => i.atResume !== undefined);
  readonly #route = this.invariants.filter((i) => i.atRoute !== undefined);
  readonly #block = this.invariants.filter((i) => i.atBlock !== undefined);

  atExit(lane: Lane, ledger: Ledger): void {
    for (const invariant of this.#exit) invariant.atExit!(lane, ledger);
  }
  atResume(lane: Lane, ledger: Ledger): void {
    for (const invariant of this.#resume) invariant.atResume!(lane, ledger);
  }
  atRoute(lane: Lane, ledger: Ledger): void {
    for (const invariant of this.#route) invariant.atRoute!(lane, ledger);
  }
  atBlock(lane: Lane, ledger: Ledger): void {
    for (const invariant of this.#block) invariant.atBlock!(lane, ledger);
  }
  atGap(lane: Lane, ledger: Ledger): void {
    for (const invariant of this.invariants) invariant.atGap?.(lane, ledger);
  }
  atTakeOver(lane: Lane, ledger: Ledger, before: BigUint64Array): void {
    for (const invariant of this.invariants) invariant.atTakeOver?.(lane, ledger, before);
  }
  atDelivery(lane: Lane, ledger: Ledger, vector: number): void {
    for (const invariant of this.invariants) invariant.atDelivery?.(lane, ledger, vector);
  }
  atEnd(lane: Lane, ledger: Ledger): void {
    for (const invariant of this.invariants) invariant.atEnd?.(lane, ledger);
  }
}
