/**
 * Steers the machine for a session: at every boundary that matters it decides whether to stop, and how far to run.
 *
 * Going back is deterministic replay: the run begins again, what was changed is changed again at the same times, and the
 * wanted boundary is reached by exact count.
 * Source: DESIGN ("Snapshots", "Exact points").
 * Invariant: only the controller's own edits change the machine; looking, stopping and going back never do.
 */
import { HarnessBug, unreachable, type HarnessError } from '../../abi/errors.js';
import type { DebugHook } from '../machine/debug-hook.js';
import type { Lane } from '../machine/lane.js';
import type { Machine } from '../machine/machine.js';
import type { StopReason, WatchedAccess } from '../vmx/stop-reason.js';
import { ArmedBreakpoints } from './armed.js';
import type { Breakpoint, BreakpointTable, Change } from './breakpoints.js';
import { Checkpoints, type Checkpoint } from './checkpoints.js';
import { CallTrace } from './call-trace.js';
import type { Tape, TapeEntry } from './edits.js';
import {
  CONTINUE,
  finishGoal,
  lineGoal,
  nextGoal,
  rangeGoal,
  stackOf,
  stepsOf,
  untilAddress,
  untilTime,
  type Goal,
} from './goals.js';
import type { PayloadImage } from './payload-image.js';
import type { Position } from './position.js';
import type { Cause, LineOf, Resume } from './resume.js';
import type { SavedState } from './session.js';
import { StretchLog } from './stretches.js';
import { WatchedValues } from './watched-values.js';

/** Thrown through the machine to take the run again from its start. */
export class Rewind extends Error {}
/** Thrown through the machine to end the session. */
export class Quit extends Error {}

/** Thrown up to atBoundary() to pause the handler: the way back begins at a checkpoint. */
class Jump extends Error {}

/** What the machine is doing for the session. */
type Mode =
  | { readonly kind: 'forward'; readonly goal: Goal }
  /** To the end, whatever comes. */
  | { readonly kind: 'end' }
  | { readonly kind: 'replay'; readonly target: number; readonly cause: Cause }
  /** To a position that has not been seen; back to `origin` if it never comes. */
  | {
      readonly kind: 'reach';
      readonly position: Position;
      readonly origin: number;
      readonly cause: Cause;
    }
  /** Looks at boundaries of a time that is past, then knows where to go. */
  | { readonly kind: 'scan'; readonly scan: Scan };

/** A wish that has a direction. */
type Moving = Exclude<Resume, { kind: 'quit' | 'end' | 'seek' | 'restore' | 'replay' }>;

/** A look at the past. */
interface Scan {
  readonly from: number;
  readonly until: number;
  /** Every boundary of this vCPU, or null for those at which a breakpoint may lie. */
  readonly each: number | null;
  readonly addresses: readonly bigint[];
  readonly origin: number;
  look(lane: Lane, time: number): void;
  then(): Mode;
}

/** Breakpoints that stop, and what changed at those that watch. */
interface Hits {
  readonly breakpoints: readonly Breakpoint[];
  readonly changes: readonly Change[];
}

const NO_HITS: Hits = { breakpoints: [], changes: [] };

/** What a pilot works with. */
export interface PilotParts {
  readonly image: PayloadImage;
  readonly breakpoints: BreakpointTable;
  readonly tape: Tape;
  /** Asks the controller. */
  readonly ask: (cause: Cause, lane: Lane | null, time: number) => Resume;
  /** Whether somebody wants the run to stop; asking takes the wish back. */
  readonly takeInterrupt: () => boolean;
  readonly savedState: (name: string) => SavedState | undefined;
}

export class Pilot implements DebugHook {
  readonly log = new StretchLog();
  readonly #parts: PilotParts;
  readonly #armed: ArmedBreakpoints;
  readonly #values: WatchedValues;
  #machine: Machine | null = null;
  #mode: Mode = {
    kind: 'reach',
    position: { exit: 1, instruction: 0 },
    origin: 0,
    cause: { kind: 'start' },
  };
  readonly #checkpoints = new Checkpoints();
  /** What to do at the pause that was asked for. */
  #atPause: 'take' | Checkpoint | null = null;
  /** Where the run was last told to go on. */
  #resumedAt = -1;
  #findingsSeen = 0;
  #lastLane: Lane | null = null;
  /** The time of the boundary at hand. */
  now = 0;
  /** What was changed is not what the machine at hand has seen. */
  #isStale = false;
  /** Whether findings stop the run. */
  stopsAtFindings = true;
  /** Steps and stops are this vCPU's alone; null for all. */
  onlyVcpu: number | null = null;

  constructor(parts: PilotParts) {
    this.#parts = parts;
    this.#armed = new ArmedBreakpoints(parts.breakpoints, parts.image);
    this.#values = new WatchedValues(parts.breakpoints);
  }

  /** A machine that begins the run. */
  attach(machine: Machine): void {
    this.#machine = machine;
    machine.debug = this;
    this.log.restart();
    this.#parts.tape.applied = 0;
    this.#isStale = false;
    this.#armed.restart();
    this.#values.forget();
    this.#checkpoints.clear();
    this.#atPause = null;
    this.#lastLane = null;
  }

  hasBreakpoint(address: bigint): boolean {
    return this.#armed.has(address);
  }

  watched(lane: Lane, access: WatchedAccess): void {
    this.#values.note(lane, access);
  }

  entryRefused(lane: Lane): void {
    this.log.retiredWithoutTick(lane);
  }

  left(lane: Lane, stop: StopReason, wasBoundary: boolean): void {
    this.log.left(lane, stop, wasBoundary);
  }

  atBoundary(lane: Lane): number {
    const time = this.log.arrive(lane);
    this.#lastLane = lane;
    this.now = time;
    const { tape } = this.#parts;
    if (tape.nextTime <= time) tape.play(this.#machine!, time);
    if (this.#checkpoints.isDue(time) && this.log.mark() !== null) {
      this.#atPause = 'take';
      return 0;
    }
    try {
      for (;;) {
        const cause = this.#causeAt(lane, time);
        if (cause === null) break;
        this.#stop(cause, lane, time);
      }
    } catch (error) {
      if (error instanceof Jump) return 0;
      throw error;
    }
    const budget = this.#budget(lane, time);
    this.#armed.tell(lane);
    return Math.max(1, Math.min(budget, tape.nextTime - time));
  }

  /** The handler is paused: here snapshots are taken and restored. */
  paused(): void {
    const what = this.#atPause;
    this.#atPause = null;
    const machine = this.#machine!;
    if (what === null) return;
    if (what === 'take') {
      const { applied } = this.#parts.tape;
      const mark = this.log.mark()!;
      const snapshot = machine.snapshot();
      this.#checkpoints.add({ time: this.now, snapshot, mark, applied });
      return;
    }
    machine.restore(what.snapshot);
    this.log.restore(what.mark, machine.paused!);
    this.#parts.tape.applied = what.applied;
    this.#values.forget();
  }

  /** Takes the way back: from a checkpoint where one can be restored, else from the start. @throws always. */
  #rewind(): never {
    const mode = this.#mode;
    const target = mode.kind === 'replay' ? mode.target : mode.kind === 'scan' ? mode.scan.from : 0;
    const found = this.#isStale ? null : this.#checkpoints.before(target, this.#machine!);
    if (found === null) throw new Rewind();
    this.#atPause = found;
    throw new Jump();
  }

  /** The scenario is over; whether the run is to be taken again. */
  ended(error: HarnessError | null): boolean {
    for (;;) {
      const mode = this.#mode;
      const time = this.log.end;
      this.now = time;
      switch (mode.kind) {
        case 'scan':
          if (this.#go(mode.scan.then(), time)) return true;
          break;
        case 'reach': {
          if (mode.cause.kind === 'start') {
            this.#mode = { kind: 'end' };
            break;
          }
          const why = `the run ends after exit ${this.log.exits}`;
          const cause: Cause = { kind: 'not-reached', position: mode.position, why };
          if (this.#go({ kind: 'replay', target: mode.origin, cause }, time)) return true;
          break;
        }
        case 'replay':
          if (mode.target !== time)
            throw new HarnessBug(`replay: ended before time ${mode.target}`);
          if (
            this.#ask(
              mode.cause.kind === 'done' ? { kind: 'ended', error } : mode.cause,
              null,
              time,
            )
          )
            return true;
          break;
        case 'forward':
        case 'end':
          if (this.#ask({ kind: 'ended', error }, null, time)) return true;
          break;
        default:
          return unreachable(mode);
      }
    }
  }

  /** Something was changed at a time: what was known of later times is void. */
  changed(time: number): void {
    this.log.forget(time);
    this.#checkpoints.forget(time);
  }

  #stop(cause: Cause, lane: Lane, time: number): void {
    if (this.#ask(cause, lane, time)) this.#rewind();
  }

  /** Asks the controller; whether its wish needs the run taken again. @throws Quit */
  #ask(cause: Cause, lane: Lane | null, time: number): boolean {
    if (cause.kind === 'breakpoint') {
      for (const one of cause.breakpoints) {
        if (one.isTemporary) this.#parts.breakpoints.remove(one.id);
      }
    }
    const resume = this.#parts.ask(cause, lane, time);
    if (resume.kind === 'quit') throw new Quit();
    this.#resumedAt = time;
    this.#findingsSeen = this.#machine!.ledger.findings.length;
    this.#values.take(this.#machine!);
    return this.#go(this.#plan(resume, lane ?? this.#lastLane, time), time);
  }

  /** Takes a mode; whether it begins before `time`. */
  #go(mode: Mode, time: number): boolean {
    this.#mode = mode;
    if (this.#isStale) return true;
    if (mode.kind === 'replay') return mode.target < time;
    return mode.kind === 'scan';
  }

  #causeAt(lane: Lane, time: number): Cause | null {
    const mode = this.#mode;
    switch (mode.kind) {
      case 'forward':
        return time === this.#resumedAt ? null : this.#forwardCause(mode.goal, lane, time);
      case 'end':
        return null;
      case 'replay':
        if (time > mode.target) throw new HarnessBug(`replay: no boundary at time ${mode.target}`);
        return time === mode.target ? mode.cause : null;
      case 'reach':
        return this.#reachCause(mode, time);
      case 'scan':
        return this.#scanCause(mode.scan, lane, time);
      default:
        return unreachable(mode);
    }
  }

  #forwardCause(goal: Goal, lane: Lane, time: number): Cause | null {
    // The goal first: it keeps an account of what has run.
    const verdict = goal.at(lane, time);
    if (this.#parts.takeInterrupt()) return { kind: 'interrupted' };
    const hit = this.#hits(lane, time);
    const counted = hit.breakpoints.filter((one) => {
      one.hits++;
      if (one.ignore === 0) return true;
      one.ignore--;
      return false;
    });
    if (counted.length > 0)
      return { kind: 'breakpoint', breakpoints: counted, changes: hit.changes };
    const { findings } = this.#machine!.ledger;
    if (this.stopsAtFindings && findings.length > this.#findingsSeen) {
      const fresh = findings.slice(this.#findingsSeen);
      this.#findingsSeen = findings.length;
      return { kind: 'finding', findings: fresh };
    }
    if (verdict === 'go on') return null;
    return { kind: verdict };
  }

  /** Breakpoints that stop a lane here, their conditions held. */
  #hits(lane: Lane, time: number): Hits {
    const { breakpoints: table } = this.#parts;
    if (table.isEmpty) return NO_HITS;
    const changes = this.#values.changes(lane, this.#machine!);
    const here = new Set([...this.#armed.at(lane), ...changes.map(({ breakpoint }) => breakpoint)]);
    if (table.has('exit')) for (const one of this.#exitCatches(lane, time)) here.add(one);
    const breakpoints = [...here].filter(
      ({ condition }) => condition === null || condition.holds(lane),
    );
    return { breakpoints, changes: changes.filter(({ breakpoint }) => here.has(breakpoint)) };
  }

  /** Breakpoints on an exit that is just beginning. */
  #exitCatches(lane: Lane, time: number): readonly Breakpoint[] {
    const { exit, instruction } = this.log.positionAt(time);
    if (exit === 0 || instruction !== 0) return [];
    return this.#parts.breakpoints
      .of(lane)
      .filter(
        ({ spec }) =>
          spec.kind === 'exit' && (spec.reason === null || spec.reason === lane.exit.basic),
      );
  }

  /** How far an engine may run so that nothing a breakpoint watches is missed. */
  #watchBudget(lane: Lane): number {
    const { breakpoints: table } = this.#parts;
    if (table.isEmpty) return Infinity;
    if (table.has('register') || this.#armed.isAtWatchedWrite(lane)) return 1;
    return table.has('watch') && !lane.engine.hasStopWatches ? 1 : Infinity;
  }

  #reachCause(mode: Extract<Mode, { kind: 'reach' }>, time: number): Cause | null {
    const here = this.log.positionAt(time);
    const { position, origin, cause } = mode;
    if (here.exit === position.exit && here.instruction === position.instruction) return cause;
    const isGone = this.log.timeOf(position) === null && here.exit > position.exit;
    const isWanted = this.#parts.takeInterrupt();
    if (!isGone && !isWanted) return null;
    if (isWanted) return { kind: 'interrupted' };
    const why = `exit ${position.exit} has fewer instructions`;
    const failed: Cause = { kind: 'not-reached', position, why };
    if (this.#go({ kind: 'replay', target: origin, cause: failed }, time)) this.#rewind();
    return failed;
  }

  #scanCause(scan: Scan, lane: Lane, time: number): Cause | null {
    if (this.#parts.takeInterrupt()) {
      const back: Mode = { kind: 'replay', target: scan.origin, cause: { kind: 'interrupted' } };
      if (this.#go(back, time)) this.#rewind();
      return null;
    }
    if (time >= scan.until) {
      if (this.#go(scan.then(), time)) this.#rewind();
      return this.#causeAt(lane, time);
    }
    if (time >= scan.from) scan.look(lane, time);
    return null;
  }

  #budget(lane: Lane, time: number): number {
    const mode = this.#mode;
    switch (mode.kind) {
      case 'forward':
        this.#armed.want(true, mode.goal.addresses);
        return Math.min(mode.goal.budget(lane, time), this.#watchBudget(lane));
      case 'end':
        this.#armed.want(false, []);
        return Infinity;
      case 'replay':
        this.#armed.want(false, []);
        return mode.target - time;
      case 'reach': {
        this.#armed.want(false, []);
        const here = this.log.positionAt(time);
        const { exit, instruction } = mode.position;
        return here.exit === exit && instruction > here.instruction
          ? instruction - here.instruction
          : Infinity;
      }
      case 'scan': {
        const { from, until, each, addresses } = mode.scan;
        const isIn = time >= from;
        this.#armed.want(isIn && each === null, isIn ? addresses : []);
        if (!isIn) return from - time;
        if (each !== null) return each === lane.id ? 1 : until - time;
        return Math.min(until - time, this.#watchBudget(lane));
      }
      default:
        return unreachable(mode);
    }
  }

  #plan(resume: Exclude<Resume, { kind: 'quit' }>, lane: Lane | null, time: number): Mode {
    if (resume.kind === 'end') return { kind: 'end' };
    if (resume.kind === 'seek') return this.#seek(resume.position, time);
    if (resume.kind === 'restore') {
      const saved = this.#parts.savedState(resume.name);
      if (saved === undefined) return { kind: 'replay', target: time, cause: { kind: 'done' } };
      this.#load(saved.entries);
      return { kind: 'replay', target: saved.time, cause: { kind: 'done' } };
    }
    if (resume.kind === 'replay') {
      this.#load(resume.entries);
      return { kind: 'reach', position: resume.position, origin: 0, cause: { kind: 'done' } };
    }
    if (resume.backwards === true) return this.#backwards(resume, lane, time);
    return { kind: 'forward', goal: this.#goal(resume, lane, time) };
  }

  /** Other changes than so far, from the start. */
  #load(entries: readonly TapeEntry[]): void {
    const same = this.#parts.tape.load(entries);
    if (same !== Infinity) this.log.forget(same);
    this.#isStale = true;
  }

  #goal(resume: Moving, lane: Lane | null, time: number): Goal {
    if (lane === null) return CONTINUE;
    switch (resume.kind) {
      case 'step': {
        const count = resume.count ?? 1;
        return this.onlyVcpu === null
          ? untilTime(time + count)
          : stepsOf(this.onlyVcpu, count, time, lane.id === this.onlyVcpu);
      }
      case 'next':
        return nextGoal(lane, resume.count ?? 1);
      case 'finish':
        return finishGoal(lane);
      case 'step-range':
        return rangeGoal(lane, resume.ranges, resume.over === true);
      case 'step-line':
        return lineGoal(lane, resume.lineOf, resume.over === true, resume.count ?? 1);
      case 'until':
        return untilAddress(resume.addresses, this.onlyVcpu);
      case 'continue':
        return CONTINUE;
      default:
        return unreachable(resume);
    }
  }

  #seek(position: Position, time: number): Mode {
    const target = this.log.timeOf(position);
    if (target === 'unknown') {
      return { kind: 'reach', position, origin: time, cause: { kind: 'done' } };
    }
    if (target !== null) return { kind: 'replay', target, cause: { kind: 'done' } };
    const why = `exit ${position.exit} has fewer instructions`;
    return { kind: 'replay', target: time, cause: { kind: 'not-reached', position, why } };
  }

  #backwards(resume: Moving, lane: Lane | null, time: number): Mode {
    if (time === 0 || lane === null) return begin(time);
    switch (resume.kind) {
      case 'step': {
        const target = this.log.back(time, resume.count ?? 1, this.onlyVcpu);
        return target === null ? begin(0) : { kind: 'replay', target, cause: { kind: 'done' } };
      }
      case 'continue':
        return this.#lastHit(time, [], () => false, resume.undoes === true);
      case 'until': {
        const wanted = new Set(resume.addresses);
        return this.#lastHit(time, resume.addresses, (one) => wanted.has(one.rip));
      }
      case 'next':
        return this.#again(lane, time, resume.count ?? 1, (there, at) =>
          this.#overCalls(there, at),
        );
      case 'step-line':
        return this.#again(lane, time, resume.count ?? 1, (there, at) =>
          this.#lineBack(there, at, resume.lineOf, resume.over === true),
        );
      case 'finish': {
        const stack = stackOf(lane);
        return this.#trace(lane, time, (trace, from) => trace.caller(stack) ?? from);
      }
      case 'step-range': {
        const { ranges } = resume;
        let target: number | null = null;
        const isIn = (rip: bigint): boolean =>
          ranges.some(({ start, end }) => rip >= start && rip < end);
        return this.#scan(lane, time, {
          look: (one, at) => {
            if (one.id === lane.id && !isIn(one.rip)) target = at;
          },
          target: (from) => target ?? from,
        });
      }
      default:
        return unreachable(resume);
    }
  }

  /** The last time before `time` at which a breakpoint or one of `addresses` was hit. */
  #lastHit(
    time: number,
    addresses: readonly bigint[],
    isHit: (lane: Lane) => boolean,
    undoes = false,
    end: number | null = null,
  ): Mode {
    let last: { readonly time: number; readonly cause: Cause } | null = null;
    const until = end ?? (undoes ? time + 1 : time);
    // A segment at a time, from the last checkpoint on; what changes at its first boundary is seen by the one before.
    const start = this.#checkpoints.before(until - 2, this.#machine!)?.time ?? 0;
    const scan: Scan = {
      from: start,
      until,
      each: null,
      addresses,
      origin: time,
      look: (lane, at) => {
        if (this.onlyVcpu !== null && lane.id !== this.onlyVcpu) return;
        const hits = at < time ? this.#hits(lane, at) : changesOf(this.#hits(lane, at));
        if (hits.breakpoints.length > 0)
          last = { time: at, cause: { kind: 'breakpoint', ...hits } };
        else if (at < time && isHit(lane)) last = { time: at, cause: { kind: 'done' } };
      },
      then: () => {
        if (last !== null) return { kind: 'replay', target: last.time, cause: last.cause };
        return start === 0 ? begin(0) : this.#lastHit(time, addresses, isHit, undoes, start + 1);
      },
    };
    return { kind: 'scan', scan };
  }

  /** A step back `count` times, each seen from where the one before it ended. */
  #again(lane: Lane, time: number, count: number, back: (lane: Lane, time: number) => Mode): Mode {
    const one = back(lane, time);
    if (count <= 1) return one;
    const next = (first: Mode): Mode => {
      if (first.kind !== 'replay' || first.target === 0) return first;
      const { target } = first;
      const scan = arriving(target, (there) => this.#again(there, target, count - 1, back));
      return { kind: 'scan', scan };
    };
    if (one.kind !== 'scan') return next(one);
    const { scan } = one;
    return { kind: 'scan', scan: { ...scan, then: () => next(scan.then()) } };
  }

  /** One instruction of the frame back; a call is one. */
  #overCalls(lane: Lane, time: number): Mode {
    const stack = stackOf(lane);
    return this.#trace(lane, time, (trace, from) => trace.before(stack) ?? from - 1);
  }

  /** To the beginning of the line at hand, or of the one before. */
  #lineBack(lane: Lane, time: number, lineOf: LineOf, isOver: boolean): Mode {
    const trace = new CallTrace(lane.id);
    const stack = isOver ? stackOf(lane) : null;
    return this.#scan(lane, time, {
      look: (one, at) => {
        if (one.id === lane.id) trace.look(one, at, lineOf(one, one.rip)?.key ?? null);
      },
      target: (from) => trace.lineBefore(stack) ?? from - 1,
    });
  }

  /** Follows the calls of the exit at hand up to `time` and goes where they say. */
  #trace(lane: Lane, time: number, choose: (trace: CallTrace, from: number) => number): Mode {
    const trace = new CallTrace(lane.id);
    return this.#scan(lane, time, {
      look: (one, at) => {
        trace.look(one, at);
      },
      target: (from) => choose(trace, from),
    });
  }

  /** Looks at every boundary of the exit at hand before `time`; at its first the way back is a single step. */
  #scan(
    lane: Lane,
    time: number,
    { look, target }: { look: Scan['look']; target: (from: number) => number },
  ): Mode {
    const from = this.log.startOfExit(this.log.positionAt(time).exit);
    if (from >= time) {
      const before = this.log.back(time, 1, this.onlyVcpu);
      return before === null
        ? begin(0)
        : { kind: 'replay', target: before, cause: { kind: 'done' } };
    }
    const then = (): Mode => {
      const chosen = target(from);
      return chosen < 0 ? begin(0) : { kind: 'replay', target: chosen, cause: { kind: 'done' } };
    };
    return {
      kind: 'scan',
      scan: { from, until: time, each: lane.id, addresses: [], origin: time, look, then },
    };
  }
}

/** Of hits, the values that changed. */
function changesOf({ changes }: Hits): Hits {
  return { breakpoints: changes.map(({ breakpoint }) => breakpoint), changes };
}

/** Back to a time at which there is nothing before. */
function begin(target: number): Mode {
  return { kind: 'replay', target, cause: { kind: 'history-start' } };
}

/** Goes to a time and on from there. */
function arriving(time: number, next: (lane: Lane) => Mode): Scan {
  let mode: Mode = begin(0);
  return {
    from: time,
    until: time + 1,
    each: null,
    addresses: [],
    origin: time,
    look: (lane) => {
      mode = next(lane);
    },
    then: () => mode,
  };
}
