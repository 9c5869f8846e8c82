/**
 * One function followed along every path: how deep its stack goes, whom it calls, what it does below RSP.
 *
 * Invariant: each instruction is looked at with the deepest RSP that any path brings to it; a path that would never
 * come to an end of deepening is reported as unbounded.
 */
import { instructionAt, transferOf } from './instruction.js';
import type { CodeInstruction, Transfer } from './instruction.js';
import { AT_ENTRY, RSP, stackAccess, stackEffect } from './stack-effect.js';
import type { Distances } from './stack-effect.js';

/** A call of another function, or a jump to its beginning. */
export interface CallSite {
  readonly at: number;
  readonly target: number;
  /** Bytes from RSP at the entry to RSP in the callee: what the call itself pushes included. */
  readonly depth: number;
}

/** An access to bytes that the next event delivery may overwrite. */
export interface BelowStack {
  readonly at: number;
  /** How far below RSP the lowest byte lies. */
  readonly bytes: number;
  readonly isWrite: boolean;
}

/** What a walk has found. */
export interface FunctionWalk {
  readonly start: number;
  readonly calls: readonly CallSite[];
  /** Deepest RSP of the function itself, in bytes below its entry. */
  readonly deepest: number;
  readonly below: readonly BelowStack[];
  /** Where RSP moves by a value that only a run knows, or deeper at each turn of a loop. */
  readonly unbounded: readonly number[];
  /** Where the return address is replaced, and returns to an address that was pushed. */
  readonly returnsElsewhere: readonly number[];
  /** Reached bytes that are no instruction. */
  readonly undefined: readonly number[];
  /** Every transfer of control that was reached. */
  readonly transfers: readonly { readonly at: number; readonly transfer: Transfer }[];
}

const MAX_VISITS = 64;
const WORD = 8;

/** How a walk is done. */
export interface WalkContext {
  readonly text: Uint8Array;
  /** Beginnings of functions: a jump to one is a call in the place of a return. */
  readonly starts: ReadonlySet<number>;
  /** The CPU or KVM comes in here: there is no return address. */
  readonly isEntry: boolean;
}

/** Follows the function that begins at `start`. */
export function walkFunction(start: number, context: WalkContext): FunctionWalk {
  return new Walk(start, context).run();
}

class Walk {
  readonly #context: WalkContext;
  readonly #start: number;
  readonly #seen = new Map<number, { distances: Distances; visits: number }>();
  readonly #calls = new Map<string, CallSite>();
  readonly #below = new Map<number, BelowStack>();
  readonly #unbounded = new Set<number>();
  readonly #returnsElsewhere = new Set<number>();
  readonly #undefined = new Set<number>();
  readonly #transfers = new Map<number, Transfer>();
  readonly #open: { at: number; distances: Distances }[] = [];
  #deepest = 0;

  constructor(start: number, context: WalkContext) {
    this.#start = start;
    this.#context = context;
  }

  run(): FunctionWalk {
    this.#reach(this.#start, AT_ENTRY, this.#start);
    for (let next = this.#open.pop(); next !== undefined; next = this.#open.pop()) {
      this.#visit(next.at, next.distances);
    }
    return {
      start: this.#start,
      calls: [...this.#calls.values()],
      deepest: this.#deepest,
      below: [...this.#below.values()],
      unbounded: [...this.#unbounded],
      returnsElsewhere: [...this.#returnsElsewhere],
      undefined: [...this.#undefined],
      transfers: [...this.#transfers].map(([at, transfer]) => ({ at, transfer })),
    };
  }

  /** Notes a position to go on from, when it brings something new. */
  #reach(at: number, distances: Distances, from: number): void {
    if (at < 0 || at >= this.#context.text.length) return;
    const seen = this.#seen.get(at);
    const merged = seen === undefined ? distances : merge(seen.distances, distances);
    if (seen !== undefined && merged.every((value, n) => value === seen.distances[n])) return;
    const visits = (seen?.visits ?? 0) + 1;
    if (visits > MAX_VISITS) {
      this.#unbounded.add(from);
      return;
    }
    this.#seen.set(at, { distances: merged, visits });
    this.#open.push({ at, distances: merged });
  }

  #visit(at: number, distances: Distances): void {
    const { text } = this.#context;
    const one = instructionAt(text, at);
    if (one === null) {
      this.#undefined.add(at);
      return;
    }
    this.#noteAccess(one, distances);
    const { after, isDynamic } = stackEffect(one, distances);
    if (isDynamic) this.#unbounded.add(at);
    this.#deepest = Math.max(this.#deepest, -(after[RSP] ?? 0));
    const transfer = transferOf(text, one);
    if (transfer.kind !== 'next') this.#transfers.set(at, transfer);
    this.#follow(one, transfer, distances, after);
  }

  #follow(one: CodeInstruction, transfer: Transfer, before: Distances, after: Distances): void {
    const next = one.at + one.form.length;
    const rsp = before[RSP] ?? 0;
    switch (transfer.kind) {
      case 'call':
        this.#call(one.at, transfer.target, rsp - WORD);
        this.#jump(one.at, next, after);
        return;
      case 'jump':
        this.#jump(one.at, transfer.target, after);
        return;
      case 'branch':
        this.#jump(one.at, transfer.target, after);
        this.#jump(one.at, next, after);
        return;
      case 'indirect':
        this.#deepest = Math.max(this.#deepest, transfer.isCall ? WORD - rsp : 0);
        if (transfer.isCall) this.#jump(one.at, next, after);
        return;
      case 'return':
        if (!this.#context.isEntry && rsp !== 0 && one.system === null) {
          this.#returnsElsewhere.add(one.at);
        }
        return;
      case 'far':
      case 'trap':
        return;
      case 'next':
        this.#jump(one.at, next, after);
    }
  }

  /** Also a fall into the next function, as behind a call that does not return. */
  #jump(at: number, target: number, distances: Distances): void {
    const isOther = target !== this.#start && this.#context.starts.has(target);
    if (isOther) this.#call(at, target, distances[RSP] ?? 0);
    else this.#reach(target, distances, at);
  }

  #call(at: number, target: number, rsp: number): void {
    this.#deepest = Math.max(this.#deepest, -rsp);
    if (target >= 0 && target < this.#context.text.length) {
      this.#calls.set(`${at} ${rsp}`, { at, target, depth: -rsp });
    }
  }

  #noteAccess(one: CodeInstruction, distances: Distances): void {
    const access = stackAccess(one, distances);
    const rsp = distances[RSP] ?? null;
    if (access === null || rsp === null) return;
    const { distance, isWrite } = access;
    if (distance < rsp) this.#below.set(one.at, { at: one.at, bytes: rsp - distance, isWrite });
    const isReturnAddress = distance >= 0 && distance < WORD;
    if (isWrite && isReturnAddress && !this.#context.isEntry) this.#returnsElsewhere.add(one.at);
  }
}

/** The deeper RSP; other registers only where both paths agree. */
function merge(one: Distances, other: Distances): Distances {
  return one.map((value, n) => {
    const second = other[n] ?? null;
    if (n !== RSP) return value === second ? value : null;
    if (value === null || second === null) return value ?? second;
    return Math.min(value, second);
  });
}
