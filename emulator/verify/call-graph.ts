/**
 * Every function that control can reach, and how deep the stack goes from each way in.
 *
 * Source: CONTRACT ("Entry points"): KVM gives a payload one stack; nothing catches it when that overflows but a guard.
 * Invariant: what is said of a depth holds for every path; a call that leads back to its caller makes it unbounded.
 */
import type { CodeImage, Place } from './code-image.js';
import { walkFunction } from './function-walk.js';
import type { FunctionWalk } from './function-walk.js';

/** Walks by the position where the function begins. */
export type Walks = ReadonlyMap<number, FunctionWalk>;

/** The deepest stack from one way in: bytes, and the calls that lead there. */
export interface StackDepth {
  readonly bytes: number;
  readonly path: readonly number[];
  /** A function of a cycle of calls; null when there is none. */
  readonly cycle: number | null;
}

const MAX_FUNCTIONS = 1 << 16;

/** Walks all functions: those with names, the ways in, and what they call. */
export function walkAll(code: CodeImage, entries: readonly Place[]): Walks {
  const ways = new Set(entries.map(({ at }) => at));
  const starts = new Set([...code.functions.map(({ at }) => at), ...ways]);
  const walks = new Map<number, FunctionWalk>();
  const open = [...starts];
  for (let start = open.pop(); start !== undefined; start = open.pop()) {
    if (walks.has(start) || walks.size > MAX_FUNCTIONS) continue;
    const walk = walkFunction(start, { text: code.text, starts, isEntry: ways.has(start) });
    walks.set(start, walk);
    open.push(...walk.calls.map(({ target }) => target).filter((target) => !walks.has(target)));
  }
  return walks;
}

/** The depth of the stack from `start`. */
export function depthOf(walks: Walks, start: number): StackDepth {
  const known = new Map<number, StackDepth>();
  const active = new Set<number>();
  const visit = (at: number): StackDepth => {
    const before = known.get(at);
    if (before !== undefined) return before;
    if (active.has(at)) return { bytes: 0, path: [at], cycle: at };
    const walk = walks.get(at);
    if (walk === undefined) return { bytes: 0, path: [at], cycle: null };
    active.add(at);
    let deepest: StackDepth = { bytes: walk.deepest, path: [at], cycle: null };
    for (const { target, depth } of walk.calls) {
      const inner = visit(target);
      const bytes = depth + inner.bytes;
      const cycle = deepest.cycle ?? inner.cycle;
      deepest =
        bytes > deepest.bytes ? { bytes, path: [at, ...inner.path], cycle } : { ...deepest, cycle };
    }
    active.delete(at);
    known.set(at, deepest);
    return deepest;
  };
  return visit(start);
}

/** Functions that a way in reaches. */
export function reachedFrom(walks: Walks, starts: Iterable<number>): ReadonlySet<number> {
  const reached = new Set<number>();
  const open = [...starts];
  for (let at = open.pop(); at !== undefined; at = open.pop()) {
    if (reached.has(at) || !walks.has(at)) continue;
    reached.add(at);
    open.push(...walks.get(at)!.calls.map(({ target }) => target));
  }
  return reached;
}
