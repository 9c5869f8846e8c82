/**
 * The calls of one exit, followed forwards, for the ways backwards over and out of them.
 *
 * Source: SysV calling convention: CALL pushes, RET gives back.
 * Invariant: a call is over when RSP is where it was before it, however that came about.
 */
import { flowOf, stackOf } from './goals.js';
import type { Lane } from '../machine/lane.js';

export class CallTrace {
  readonly #vcpu: number;
  /** Calls that have not returned: when, and RSP before each. */
  readonly #open: { readonly time: number; readonly stack: bigint }[] = [];
  /** The last boundary at each depth. */
  readonly #lastAt: number[] = [];

  constructor(vcpu: number) {
    this.#vcpu = vcpu;
  }

  /** Looks at a boundary; they come in order. */
  look(lane: Lane, time: number): void {
    if (lane.id !== this.#vcpu) return;
    this.#return(stackOf(lane));
    this.#lastAt.length = this.#open.length + 1;
    this.#lastAt[this.#open.length] = time;
    if (flowOf(lane) === 'call') this.#open.push({ time, stack: stackOf(lane) });
  }

  /** The last boundary that was not inside a call of the frame whose RSP is `stack` now; null when none was seen. */
  before(stack: bigint): number | null {
    this.#return(stack);
    const times = this.#lastAt.slice(0, this.#open.length + 1).filter((time) => time >= 0);
    return times.length === 0 ? null : Math.max(...times);
  }

  /** When the function of the frame whose RSP is `stack` now was called; null for the outermost. */
  caller(stack: bigint): number | null {
    this.#return(stack);
    return this.#open.at(-1)?.time ?? null;
  }

  #return(stack: bigint): void {
    while (this.#open.length > 0 && this.#open.at(-1)!.stack <= stack) this.#open.pop();
  }
}
