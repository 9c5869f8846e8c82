/**
 * The TSC of one pCPU: instructions executed plus explicit jumps.
 *
 * Source: SDM, "Time-Stamp Counter"; DESIGN ("Deterministic time").
 * Invariant: now() never goes backwards but by restore(); one tick an instruction, whoever executed it.
 * Not modelled: IA32_TSC_ADJUST and writes of IA32_TIME_STAMP_COUNTER, which would part the TSC from virtual time.
 */
import { HarnessBug } from '../../abi/errors.js';

/** The engine's part of the TSC: its exact instruction count, and the base that its in-line RDTSC adds to it. */
export interface TickSource {
  tscBase: number;
  readonly counters: { readonly instructions: number };
}

/** The clock as plain data: the TSC now, in ticks. */
export interface VirtualClockState {
  readonly tsc: number;
}

export class VirtualClock {
  readonly #source: TickSource;

  constructor(source: TickSource) {
    this.#source = source;
  }

  /** The TSC now, in ticks. */
  now(): number {
    return this.#source.tscBase + this.#source.counters.instructions;
  }

  /** Lets `ticks` pass in which the engine executes nothing: a modelled instruction, a VM exit, a wait. */
  advance(ticks: number): void {
    if (!(ticks >= 0)) throw new HarnessBug(`time does not go back by ${ticks} ticks`);
    this.#source.tscBase += ticks;
  }

  /** Jumps to `tsc`; a time that has passed already leaves the clock as it is. */
  advanceTo(tsc: number): void {
    const ahead = tsc - this.now();
    if (ahead > 0) this.advance(ahead);
  }

  state(): VirtualClockState {
    return { tsc: this.now() };
  }

  /** Sets the clock to where `state` was taken, after the engine's own counters have been restored. */
  restore(state: VirtualClockState): void {
    this.#source.tscBase = state.tsc - this.#source.counters.instructions;
  }
}
