/**
 * What one core ran of one exit, boundary by boundary with its depth of calls, for the ways backwards.
 *
 * Source: SysV calling convention: CALL pushes, RET gives back; SDM, "Interrupt and Exception Handling": an event begins
 * a handler, on a stack of its own, and IRET ends it.
 * Invariant: a call is over when RSP is where it was before it, however that came about; a handler, and every call in
 * it, when its IRET has executed. Going back from a boundary never goes deeper than that boundary is.
 */
import { flowOf, stackOf } from './goals.js';
import type { FlowKind } from './instruction-kind.js';
import type { Lane } from '../machine/lane.js';

/** A boundary as it was passed. */
export interface Passed {
  readonly time: number;
  readonly rip: bigint;
  /** Calls and handlers that had begun and not ended. */
  readonly depth: number;
}

/** Which boundaries count as a step back. */
export interface Wanted {
  readonly isDeep: boolean;
  readonly isWanted: (passed: Passed) => boolean;
}

/** Where a way back of several steps has come to, and how many are left. */
export interface CameTo {
  readonly time: number | null;
  readonly left: number;
}

/** A call by RSP before it; a handler without. */
type Open = { readonly stack: bigint | null };

export class CallTrace {
  readonly vcpu: number;
  readonly #passed: Passed[] = [];
  readonly #open: Open[] = [];
  /** The instruction that ran last. */
  #last: { readonly flow: FlowKind; readonly rip: bigint; readonly stack: bigint } | null = null;
  /** The depth that the way back begins at. */
  #depth = 0;

  constructor(vcpu: number) {
    this.vcpu = vcpu;
  }

  /** Passes a boundary; `taken` are the addresses that events interrupted right before it. Boundaries come in order. */
  look(lane: Lane, time: number, taken: readonly bigint[]): Passed {
    this.arrive(lane, taken);
    const passed = { time, rip: lane.rip, depth: this.#depth };
    this.#passed.push(passed);
    this.#last = { flow: flowOf(lane), rip: lane.rip, stack: stackOf(lane) };
    return passed;
  }

  /** The way back begins here. */
  arrive(lane: Lane, taken: readonly bigint[]): void {
    const last = this.#last;
    // An instruction that an event came instead of has not executed.
    const hasRun = last !== null && taken[0] !== last.rip;
    if (hasRun && last.flow === 'call') this.#open.push({ stack: last.stack });
    if (hasRun && last.flow === 'event-return') this.#endHandler();
    for (let count = taken.length; count > 0; count--) this.#open.push({ stack: null });
    this.#endCalls(stackOf(lane));
    this.#depth = this.#open.length;
  }

  /** `count` boundaries back that are wanted; unless `isDeep`, none of them deeper than the one before it. */
  back(count: number, { isWanted, isDeep }: Wanted): CameTo {
    let depth = this.#depth;
    let left = count;
    for (let index = this.#passed.length - 1; index >= 0; index--) {
      const passed = this.#passed[index]!;
      if (passed.depth > depth && !isDeep) continue;
      depth = passed.depth;
      if (isWanted(passed) && --left === 0) return { time: passed.time, left };
    }
    return { time: null, left };
  }

  /** When the function or handler at hand was begun; null for the outermost. */
  get caller(): number | null {
    return this.#passed.findLast(({ depth }) => depth < this.#depth)?.time ?? null;
  }

  #endCalls(stack: bigint): void {
    for (let top = this.#open.at(-1); top !== undefined; top = this.#open.at(-1)) {
      if (top.stack === null || top.stack > stack) return;
      this.#open.pop();
    }
  }

  #endHandler(): void {
    const handler = this.#open.findLastIndex(({ stack }) => stack === null);
    if (handler >= 0) this.#open.length = handler;
  }
}
