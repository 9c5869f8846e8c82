/**
 * The local APIC's timer: one-shot and periodic counting at a divided crystal clock, and TSC-deadline mode.
 *
 * Source: SDM, "APIC Timer", "TSC-Deadline Mode".
 * Invariant: nothing ticks: an expiry is a TSC, the current count is computed when it is read.
 * Not modelled: the timer's stop in deep C-states; missed periods of a periodic timer raise one interrupt, as in an IRR bit.
 */
import { toIndex } from '../../../abi/uint.js';

/** Bits 18:17 of the LVT timer register. */
export type ApicTimerMode = 'one-shot' | 'periodic' | 'tsc-deadline';

/** The timer as plain data; `startTsc` is when the present count began, null when the timer is stopped. */
export interface ApicTimerState {
  readonly mode: ApicTimerMode;
  readonly divide: number;
  readonly initialCount: number;
  readonly startCount: number;
  readonly startTsc: number | null;
  readonly deadline: bigint;
}

const LAST_EXACT_TSC = BigInt(Number.MAX_SAFE_INTEGER);

export class ApicTimer {
  /** The TSC of the next expiry, Infinity when the timer is stopped; a field, because every run asks. */
  nextTsc = Infinity;
  readonly #ticksPerCount: number;
  #mode: ApicTimerMode = 'one-shot';
  #divide = 0;
  #initialCount = 0;
  #startCount = 0;
  #startTsc: number | null = null;
  #deadline = 0n;

  /** `ticksPerCount` is the ratio of the TSC to the timer's undivided clock. */
  constructor(ticksPerCount: number) {
    this.#ticksPerCount = ticksPerCount;
  }

  get initialCount(): number {
    return this.#initialCount;
  }

  get divide(): number {
    return this.#divide;
  }

  /** IA32_TSC_DEADLINE: 0 when disarmed or in another mode. */
  get deadline(): bigint {
    return this.#deadline;
  }

  /** A change to or from TSC-deadline mode disarms the timer; one-shot and periodic change over without a stop. */
  setMode(mode: ApicTimerMode): void {
    if (mode === this.#mode) return;
    if (mode === 'tsc-deadline' || this.#mode === 'tsc-deadline') this.disarm();
    this.#mode = mode;
  }

  disarm(): void {
    this.#startTsc = null;
    this.#deadline = 0n;
    this.nextTsc = Infinity;
  }

  /** Bits 3, 1 and 0 choose the divisor; a running count goes on from where it is. */
  setDivide(divide: number, now: number): void {
    if (this.#startTsc !== null) {
      this.#startCount = this.currentCount(now);
      this.#startTsc = now;
    }
    this.#divide = divide;
    this.#reschedule();
  }

  /** A count of 0 stops the timer; the register does nothing in TSC-deadline mode. */
  setInitialCount(count: number, now: number): void {
    if (this.#mode === 'tsc-deadline') return;
    this.#initialCount = count;
    this.#startCount = count;
    this.#startTsc = count === 0 ? null : now;
    this.#reschedule();
  }

  /** Arms the deadline, or disarms it with 0; ignored in the other modes. */
  setDeadline(deadline: bigint): void {
    if (this.#mode !== 'tsc-deadline') return;
    this.#deadline = deadline;
    this.#reschedule();
  }

  /** What is left of the count, 0 when the timer is stopped or in TSC-deadline mode. */
  currentCount(now: number): number {
    if (this.#startTsc === null) return 0;
    const elapsed = Math.floor((now - this.#startTsc) / this.#countTicks());
    return Math.max(0, this.#startCount - elapsed);
  }

  /** Whether the timer expires by `now`; a periodic one starts over, the others stop. */
  expire(now: number): boolean {
    const due = this.nextTsc;
    if (due > now) return false;
    if (this.#startTsc === null) {
      this.#deadline = 0n;
    } else if (this.#mode === 'periodic') {
      const period = this.#initialCount * this.#countTicks();
      this.#startCount = this.#initialCount;
      this.#startTsc = due + Math.floor((now - due) / period) * period;
    } else {
      this.#startTsc = null;
    }
    this.#reschedule();
    return true;
  }

  state(): ApicTimerState {
    return {
      mode: this.#mode,
      divide: this.#divide,
      initialCount: this.#initialCount,
      startCount: this.#startCount,
      startTsc: this.#startTsc,
      deadline: this.#deadline,
    };
  }

  restore(state: ApicTimerState): void {
    this.#mode = state.mode;
    this.#divide = state.divide;
    this.#initialCount = state.initialCount;
    this.#startCount = state.startCount;
    this.#startTsc = state.startTsc;
    this.#deadline = state.deadline;
    this.#reschedule();
  }

  #reschedule(): void {
    if (this.#startTsc !== null) {
      this.nextTsc = this.#startTsc + this.#startCount * this.#countTicks();
    } else if (this.#deadline === 0n || this.#deadline > LAST_EXACT_TSC) {
      this.nextTsc = Infinity;
    } else {
      this.nextTsc = toIndex(this.#deadline);
    }
  }

  /** TSC ticks of one count: encodings 0 to 6 divide by 2 to 128, encoding 7 by 1. */
  #countTicks(): number {
    const encoding = ((this.#divide >>> 1) & 4) | (this.#divide & 3);
    return this.#ticksPerCount * (1 << ((encoding + 1) & 7));
  }
}
