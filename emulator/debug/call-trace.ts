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
  /** The line that ran last at each depth, and when it began. */
  readonly #lines: { readonly key: string; readonly start: number }[] = [];
  #lastLine = -1;

  constructor(vcpu: number) {
    this.#vcpu = vcpu;
  }

  /** Looks at a boundary; they come in order. */
  look(lane: Lane, time: number, line: string | null = null): void {
    if (lane.id !== this.#vcpu) return;
    this.#return(stackOf(lane));
    const depth = this.#open.length;
    this.#lastAt.length = depth + 1;
    this.#lastAt[depth] = time;
    this.#lines.length = depth + 1;
    // A line without a name is each instruction for itself.
    const key = line ?? `${time}`;
    const before = this.#lines[depth];
    if (before?.key !== key) this.#lines[depth] = { key, start: time };
    this.#lastLine = this.#lines[depth]!.start;
    if (flowOf(lane) === 'call') this.#open.push({ time, stack: stackOf(lane) });
  }

  /** The last boundary that was not inside a call of the frame whose RSP is `stack` now; null when none was seen. */
  before(stack: bigint): number | null {
    this.#return(stack);
    const times = this.#lastAt.slice(0, this.#open.length + 1).filter((time) => time >= 0);
    return times.length === 0 ? null : Math.max(...times);
  }

  /** When the line began that ran last, in the frame whose RSP is `stack` now or, without one, in any. */
  lineBefore(stack: bigint | null): number | null {
    if (stack === null) return this.#lastLine < 0 ? null : this.#lastLine;
    this.#return(stack);
    const starts = this.#lines.slice(0, this.#open.length + 1).map((line) => line.start);
    return starts.length === 0 ? null : Math.max(...starts);
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
