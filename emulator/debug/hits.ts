/**
 * What stops a lane at a boundary: breakpoints at its RIP, values that changed, exits that begin; conditions and counts.
 *
 * Source: the field's own words (gdb's break, watch, catch, condition, ignore).
 * Invariant: looking changes no machine; only count() changes a breakpoint.
 */
import type { Lane } from '../machine/lane.js';
import type { Machine } from '../machine/machine.js';
import type { WatchedAccess } from '../vmx/stop-reason.js';
import type { ArmedBreakpoints } from './armed.js';
import type { Breakpoint, BreakpointTable, Change } from './breakpoints.js';
import type { Position } from './position.js';
import { WatchedValues } from './watched-values.js';

/** Breakpoints that stop, and what changed at those that watch. */
export interface Hits {
  readonly breakpoints: readonly Breakpoint[];
  readonly changes: readonly Change[];
}

const NO_HITS: Hits = { breakpoints: [], changes: [] };

export class HitFinder {
  readonly #table: BreakpointTable;
  readonly #armed: ArmedBreakpoints;
  readonly #values: WatchedValues;

  constructor(table: BreakpointTable, armed: ArmedBreakpoints) {
    this.#table = table;
    this.#armed = armed;
    this.#values = new WatchedValues(table);
  }

  /** Another time: what was known of values is void. */
  forget(): void {
    this.#values.forget();
  }

  /** Takes the values as they are, so that only later changes count. */
  take(machine: Machine): void {
    this.#values.take(machine);
  }

  /** The engine stopped behind an access. */
  note(lane: Lane, access: WatchedAccess): void {
    this.#values.note(lane, access);
  }

  /** Breakpoints that stop a lane here, their conditions held. */
  at(lane: Lane, position: Position, machine: Machine): Hits {
    if (this.#table.isEmpty) return NO_HITS;
    const changes = this.#values.changes(lane, machine);
    const here = new Set([...this.#armed.at(lane), ...changes.map(({ breakpoint }) => breakpoint)]);
    if (this.#table.has('exit')) for (const one of this.#exits(lane, position)) here.add(one);
    if (here.size === 0) return NO_HITS;
    const breakpoints = [...here].filter(
      ({ condition }) => condition === null || condition.holds(lane),
    );
    return { breakpoints, changes: changes.filter(({ breakpoint }) => here.has(breakpoint)) };
  }

  /** Counts hits; those that are not to be passed. */
  count({ breakpoints, changes }: Hits): Hits {
    if (breakpoints.length === 0) return NO_HITS;
    const left = breakpoints.filter((one) => {
      one.hits++;
      if (one.ignore === 0) return true;
      one.ignore--;
      return false;
    });
    return { breakpoints: left, changes };
  }

  /** How far an engine may run so that nothing a breakpoint watches is missed. */
  budget(lane: Lane): number {
    if (this.#table.isEmpty) return Infinity;
    if (this.#table.has('register') || this.#armed.isAtWatchedWrite(lane)) return 1;
    return this.#table.has('watch') && !lane.engine.watch.canStop ? 1 : Infinity;
  }

  /** Breakpoints on an exit that is just beginning. */
  #exits(lane: Lane, { exit, instruction }: Position): readonly Breakpoint[] {
    if (exit === 0 || instruction !== 0) return [];
    return this.#table
      .of(lane)
      .filter(
        ({ spec }) =>
          spec.kind === 'exit' && (spec.reason === null || spec.reason === lane.exit.basic),
      );
  }
}

/** Of hits, the values that changed. */
export function changesOf({ changes }: Hits): Hits {
  return { breakpoints: changes.map(({ breakpoint }) => breakpoint), changes };
}
