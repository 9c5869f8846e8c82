/**
 * The interrupts of a local APIC: requested, in service, and which one the processor takes next.
 *
 * Source: SDM, "Interrupt Acceptance for Fixed Interrupts", "Task and Processor Priorities", "Signaling Interrupt
 * Servicing Completion".
 * Invariant: a vector is in the IRR at most once, and in the ISR from acknowledge() to its EOI.
 */
import { VectorSet } from './vector-set.js';

/** The queue as plain data; each register as eight words, the lowest vectors first. */
export interface InterruptQueueState {
  readonly tpr: number;
  readonly isr: readonly number[];
  readonly tmr: readonly number[];
  readonly irr: readonly number[];
}

export class InterruptQueue {
  readonly isr = new VectorSet();
  readonly tmr = new VectorSet();
  readonly irr = new VectorSet();
  /** The task priority, eight bits. */
  tpr = 0;

  /** The processor priority: TPR, or the class in service when that is higher. */
  get priority(): number {
    const inService = this.isr.highest();
    if (inService < 0 || inService >>> 4 <= this.tpr >>> 4) return this.tpr;
    return inService & 0xf0;
  }

  /** The vector that the processor takes next if IF allows, or -1. */
  get deliverable(): number {
    const vector = this.irr.highest();
    return vector >= 0 && vector >>> 4 > this.priority >>> 4 ? vector : -1;
  }

  request(vector: number, isLevel: boolean): void {
    this.irr.add(vector);
    if (isLevel) this.tmr.add(vector);
    else this.tmr.delete(vector);
  }

  /** Moves the deliverable vector from the IRR to the ISR; -1 when there is none. */
  acknowledge(): number {
    const vector = this.deliverable;
    if (vector >= 0) {
      this.irr.delete(vector);
      this.isr.add(vector);
    }
    return vector;
  }

  /** Ends the highest vector in service and returns it; -1 when there is none. */
  eoi(): number {
    const vector = this.isr.highest();
    if (vector >= 0) this.isr.delete(vector);
    return vector;
  }

  clear(): void {
    this.isr.clear();
    this.tmr.clear();
    this.irr.clear();
    this.tpr = 0;
  }

  state(): InterruptQueueState {
    return {
      tpr: this.tpr,
      isr: this.isr.state(),
      tmr: this.tmr.state(),
      irr: this.irr.state(),
    };
  }

  restore(state: InterruptQueueState): void {
    this.tpr = state.tpr;
    this.isr.restore(state.isr);
    this.tmr.restore(state.tmr);
    this.irr.restore(state.irr);
  }
}
