/**
 * The invariants' hooks, one flat list a point, so that an exit calls what looks at it and nothing else.
 *
 * Invariant: where an exit goes on, its VMCS is current; a payload that has cleared it is a finding, and what looks at
 * an exit is not asked then. A vCPU that stopped, parked or waits for its next kernel has none.
 */
import type { KvmVcpu } from '../host/kvm/vcpu.js';
import type { GuestAccess } from '../vmx/ept/guest-access.js';
import { makeInvariants } from './invariants/index.js';
import type { Invariant } from './invariants/invariant.js';
import type { CompletionQueue } from './completions.js';
import type { ExitRecord, Outcome } from './exit-record.js';
import type { Lane } from './lane.js';
import type { Ledger } from './ledger.js';

/** Somebody who wants to know what became of each exit, and judges nothing. */
export interface ExitObserver {
  readonly onOutcome: (lane: Lane, outcome: Outcome) => void;
}

export class Hooks {
  readonly observers: ExitObserver[] = [];
  readonly invariants: readonly Invariant[] = makeInvariants();
  readonly #ofRun = this.invariants.filter(({ holdsForRun }) => holdsForRun);
  readonly #exit = this.invariants.flatMap(({ atExit }) => atExit ?? []);
  readonly #resume = this.invariants.flatMap(({ atResume }) => atResume ?? []);
  readonly #route = this.invariants.flatMap(({ atRoute }) => atRoute ?? []);
  readonly #block = this.invariants.flatMap(({ atBlock }) => atBlock ?? []);

  atExit(lane: Lane, ledger: Ledger): void {
    for (const look of this.#exit) look(lane, ledger);
  }
  atResume(lane: Lane, ledger: Ledger): void {
    if (!hasVmcs(lane, ledger)) return;
    for (const look of this.#resume) look(lane, ledger);
  }
  /** KVM has called the run entry. */
  atRun(lane: Lane, ledger: Ledger): void {
    asExit(lane, lane.run, () => {
      for (const invariant of this.#ofRun) invariant.atExit?.(lane, ledger);
    });
  }
  /** The payload is at the VM entry that KVM called it for. */
  atRunEntry(lane: Lane, ledger: Ledger): void {
    asExit(lane, lane.run, () => {
      if (!hasVmcs(lane, ledger)) return;
      for (const invariant of this.#ofRun) invariant.atResume?.(lane, ledger);
    });
  }
  atRoute(lane: Lane, ledger: Ledger): void {
    if (!hasVmcs(lane, ledger)) return;
    for (const look of this.#route) look(lane, ledger);
  }
  atBlock(lane: Lane, ledger: Ledger): void {
    if (!hasVmcs(lane, ledger)) return;
    for (const look of this.#block) look(lane, ledger);
  }
  atHandOver(lane: Lane, ledger: Ledger): void {
    for (const invariant of this.invariants) invariant.atHandOver?.(lane, ledger);
  }
  atStop(lane: Lane, ledger: Ledger): void {
    for (const invariant of this.invariants) invariant.atStop?.(lane, ledger);
  }
  atPark(lane: Lane, ledger: Ledger): void {
    for (const invariant of this.invariants) invariant.atPark?.(lane, ledger);
  }
  atGap(lane: Lane, ledger: Ledger): void {
    if (!hasVmcs(lane, ledger)) return;
    for (const invariant of this.invariants) invariant.atGap?.(lane, ledger);
  }
  atAdopt(lane: Lane, ledger: Ledger, before: KvmVcpu): void {
    for (const invariant of this.invariants) invariant.atAdopt?.(lane, ledger, before);
  }
  beforeTakeOver(lane: Lane, ledger: Ledger): void {
    for (const invariant of this.invariants) invariant.beforeTakeOver?.(lane, ledger);
  }
  atTakeOver(lane: Lane, ledger: Ledger): void {
    for (const invariant of this.invariants) invariant.atTakeOver?.(lane, ledger);
  }
  atAccess(lane: Lane, ledger: Ledger, access: GuestAccess, hpa: bigint): void {
    for (const invariant of this.invariants) invariant.atAccess?.(lane, ledger, access, hpa);
  }
  atDelivery(lane: Lane, ledger: Ledger, vector: number): void {
    for (const invariant of this.invariants) invariant.atDelivery?.(lane, ledger, vector);
  }
  atCompletionsSeen(lane: Lane, ledger: Ledger, queue: CompletionQueue, count: bigint): void {
    for (const invariant of this.invariants)
      invariant.atCompletionsSeen?.(lane, ledger, queue, count);
  }
  atHandOverDue(lane: Lane, ledger: Ledger, queue: CompletionQueue, completed: number): void {
    for (const invariant of this.invariants)
      invariant.atHandOverDue?.(lane, ledger, queue, completed);
  }
  atEnd(lane: Lane, ledger: Ledger): void {
    for (const invariant of this.invariants) invariant.atEnd?.(lane, ledger);
  }
}

/** Looks at a lane with another record in the place of its exit's. */
function asExit(lane: Lane, record: ExitRecord, look: () => void): void {
  const { exit } = lane;
  lane.exit = record;
  try {
    look();
  } finally {
    lane.exit = exit;
  }
}

function hasVmcs(lane: Lane, ledger: Ledger): boolean {
  if (lane.hasVmcs) return true;
  ledger.fail('no-lost-exit', lane.rip, `${lane.describeExit()}: the core has no current VMCS`);
  return false;
}
