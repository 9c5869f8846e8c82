/**
 * The time of a debugger: every instruction boundary of a run numbered, over all cores, and the way back from a number.
 *
 * A stretch is what one core executes of the payload until another one does, or until it leaves the payload; within one,
 * boundaries are instructions. So a list of stretches tells positions from times and times from positions.
 * Source: DESIGN ("Exact points").
 * Invariant: a run that is taken again from its start meets the same stretches; anything else is a bug of ours.
 */
import { HarnessBug } from '../../abi/errors.js';
import type { Lane } from '../machine/lane.js';
import type { StopKind, StopReason } from '../vmx/stop-reason.js';
import type { Position } from './position.js';

/** What one core executed in one go. */
export interface Stretch {
  readonly vcpu: number;
  readonly exit: number;
  /** The position's instruction at its first boundary. */
  readonly instruction: number;
  /** Time of its first boundary. */
  readonly start: number;
  /** Boundaries known so far; all of them once it is closed. */
  steps: number;
  isClosed: boolean;
}

/** What a vCPU is in. */
interface Progress {
  exit: number;
  /** Instructions since HOST_RIP, up to the stretch at hand. */
  executed: number;
  /** The lane's own number of that exit. */
  sequence: number;
}

/** The stretch at hand, and the engine's count at its start less what took no tick. */
interface Open {
  readonly lane: Lane;
  readonly stretch: Stretch;
  base: number;
}

/** Where the log stands, as plain data for a snapshot. */
export interface StretchMark {
  readonly index: number;
  readonly exits: number;
  readonly progress: readonly (readonly [number, Progress])[];
}

/** Stops behind which the core stands at no boundary that a single step would show. */
const BEHIND: ReadonlySet<StopKind> = new Set<StopKind>([
  'routed',
  'spinning',
  'halted',
  'instruction-limit',
]);

export class StretchLog {
  readonly #known: Stretch[] = [];
  /** First stretch of each exit. */
  readonly #firstOf: number[] = [];
  #progress = new Map<number, Progress>();
  #exits = 0;
  #index = -1;
  #open: Open | null = null;

  /** A core stands at a boundary: its time. */
  arrive(lane: Lane): number {
    const open = this.#open;
    if (open !== null && open.lane === lane) {
      return open.stretch.start + this.#see(open);
    }
    if (open !== null) this.#close(false);
    return this.#begin(lane).start;
  }

  /** An instruction that took no tick. */
  retiredWithoutTick(lane: Lane): void {
    if (this.#open?.lane === lane) this.#open.base--;
  }

  /** A core left the payload. */
  left(lane: Lane, stop: StopReason, wasBoundary: boolean): void {
    if (this.#open?.lane === lane) this.#close(wasBoundary && !BEHIND.has(stop.kind));
  }

  /** The stretch at hand. */
  get stretch(): Stretch | null {
    return this.#open?.stretch ?? null;
  }

  /** Times known so far: one more than the last. */
  get end(): number {
    const last = this.#known.at(-1);
    return last === undefined ? 0 : last.start + last.steps;
  }

  /** Exits known so far. */
  get exits(): number {
    return this.#firstOf.length === 0 ? 0 : this.#firstOf.length - 1;
  }

  /** The stretch that holds a time; the last one for the time behind it. */
  at(time: number): Stretch {
    const open = this.#open?.stretch;
    if (open !== undefined && time >= open.start && time < open.start + open.steps) return open;
    let low = 0;
    let high = this.#known.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#known[middle]!.start <= time) low = middle + 1;
      else high = middle;
    }
    const found = this.#known[low - 1];
    if (found === undefined) throw new HarnessBug(`no stretch at time ${time}`);
    return found;
  }

  positionAt(time: number): Position {
    if (this.#known.length === 0) return { exit: 0, instruction: 0 };
    const stretch = this.at(time);
    return { exit: stretch.exit, instruction: stretch.instruction + (time - stretch.start) };
  }

  /** The time of a position, `unknown` when the run has not been there, null when there is no such instruction. */
  timeOf({ exit, instruction }: Position): number | 'unknown' | null {
    const first = this.#firstOf[exit];
    if (first === undefined) return 'unknown';
    for (let index = first; index < this.#known.length; index++) {
      const stretch = this.#known[index]!;
      if (stretch.exit !== exit) continue;
      const into = instruction - stretch.instruction;
      if (into >= 0 && into < stretch.steps) return stretch.start + into;
      if (!stretch.isClosed) return 'unknown';
    }
    return this.#mayGoOn(exit) ? 'unknown' : null;
  }

  /** Whether an exit may have instructions that have not been seen: its vCPU has taken no other since. */
  #mayGoOn(exit: number): boolean {
    const vcpu = this.#known[this.#firstOf[exit]!]!.vcpu;
    if (exit === 0) return this.exits === 0;
    for (let index = this.#known.length - 1; index >= 0; index--) {
      if (this.#known[index]!.vcpu === vcpu) return this.#known[index]!.exit === exit;
    }
    return true;
  }

  /** The time `count` boundaries of one vCPU, or of all, before a time; null when there are not so many. */
  back(time: number, count: number, vcpu: number | null): number | null {
    if (vcpu === null) return time >= count ? time - count : null;
    let left = count;
    for (let index = this.#indexAt(time); index >= 0; index--) {
      const { start, steps, vcpu: own } = this.#known[index]!;
      if (own !== vcpu) continue;
      const before = Math.min(time - start, steps);
      if (before >= left) return start + before - left;
      left -= before;
    }
    return null;
  }

  #indexAt(time: number): number {
    return this.#known.indexOf(this.at(time));
  }

  /** The first time of an exit. */
  startOfExit(exit: number): number {
    return this.#known[this.#firstOf[exit] ?? 0]?.start ?? 0;
  }

  /** The run begins again. */
  restart(): void {
    this.#index = -1;
    this.#exits = 0;
    this.#progress.clear();
    this.#open = null;
  }

  /** What comes after a time is no longer known: something was changed there. */
  forget(time: number): void {
    while (this.#known.length > 0 && this.#known.at(-1)!.start > time) this.#known.pop();
    const last = this.#known.at(-1);
    if (last !== undefined && last.start + last.steps > time + 1)
      last.steps = time + 1 - last.start;
    if (last !== undefined) last.isClosed = false;
    while (this.#firstOf.length > 0 && this.#firstOf.at(-1)! >= this.#known.length) {
      this.#firstOf.pop();
    }
  }

  /** Where the log stands, at the first boundary of a stretch; null anywhere else. */
  mark(): StretchMark | null {
    const open = this.#open;
    if (open === null || open.lane.engine.counters.instructions !== open.base) return null;
    return {
      index: this.#index,
      exits: this.#exits,
      progress: [...this.#progress].map(([id, one]) => [id, { ...one }]),
    };
  }

  /** Back to a mark, after the machine itself: `lane` stands at the first boundary of that stretch again. */
  restore(mark: StretchMark, lane: Lane): void {
    this.#index = mark.index;
    this.#exits = mark.exits;
    this.#progress = new Map(mark.progress.map(([id, one]) => [id, { ...one }]));
    const base = lane.engine.counters.instructions;
    this.#open = { lane, stretch: this.#known[mark.index]!, base };
  }

  #see(open: Open): number {
    const into = open.lane.engine.counters.instructions - open.base;
    const { stretch } = open;
    if (into >= stretch.steps) {
      if (stretch.isClosed) {
        throw new HarnessBug(`replay: ${into} instructions where there were ${stretch.steps}`);
      }
      stretch.steps = into + 1;
    }
    return into;
  }

  #begin(lane: Lane): Stretch {
    const { exit, instruction } = this.#enter(lane);
    this.#index++;
    const known = this.#known[this.#index];
    const before = this.#known[this.#index - 1];
    const start = before === undefined ? 0 : before.start + before.steps;
    const stretch: Stretch = known ?? {
      vcpu: lane.id,
      exit,
      instruction,
      start,
      steps: 1,
      isClosed: false,
    };
    if (known === undefined) {
      this.#known.push(stretch);
      this.#firstOf[exit] ??= this.#index;
    } else if (
      known.vcpu !== lane.id ||
      known.exit !== exit ||
      known.instruction !== instruction ||
      known.start !== start
    ) {
      throw new HarnessBug(
        `replay: vCPU ${lane.id} at ${exit}:${instruction} where vCPU ${known.vcpu} was at ${known.exit}:${known.instruction}`,
      );
    }
    this.#open = { lane, stretch, base: lane.engine.counters.instructions };
    return stretch;
  }

  /** The exit and instruction at which a lane goes on. */
  #enter(lane: Lane): Position {
    let progress = this.#progress.get(lane.id);
    if (progress === undefined) {
      progress = { exit: 0, executed: 0, sequence: 0 };
      this.#progress.set(lane.id, progress);
    }
    if (lane.inExit && lane.exit.sequence !== progress.sequence) {
      progress.exit = ++this.#exits;
      progress.executed = 0;
      progress.sequence = lane.exit.sequence;
    }
    if (progress.exit > 0) return { exit: progress.exit, instruction: progress.executed };
    let before = 0;
    for (let index = 0; index <= this.#index; index++) {
      const stretch = this.#known[index]!;
      if (stretch.exit === 0) before += stretch.steps;
    }
    return { exit: 0, instruction: before };
  }

  /** Ends the stretch at hand; `isShown` when the core stands at a boundary of it. */
  #close(isShown: boolean): void {
    const { lane, stretch, base } = this.#open!;
    const executed = lane.engine.counters.instructions - base;
    const steps = Math.max(1, executed + (isShown ? 1 : 0));
    if (stretch.isClosed ? stretch.steps !== steps : stretch.steps > steps) {
      throw new HarnessBug(`replay: a stretch of ${steps} instructions had ${stretch.steps}`);
    }
    stretch.steps = steps;
    stretch.isClosed = true;
    this.#progress.get(lane.id)!.executed += executed;
    this.#open = null;
  }
}
