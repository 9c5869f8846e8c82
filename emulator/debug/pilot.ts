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
import type { Finding, StopReason, WatchedAccess } from '../vmx/stop-reason.js';
import { ArmedBreakpoints } from './armed.js';
import type { BreakpointTable } from './breakpoints.js';
import { Checkpoints, type Checkpoint } from './checkpoints.js';
import type { Tape } from './edits.js';
import type { Goal } from './goals.js';
import { HitFinder, type Hits } from './hits.js';
import { beginOf, replayTo, type Mode, type Scan } from './modes.js';
import type { PayloadImage } from './payload-image.js';
import { Planner } from './planner.js';
import type { Cause, Resume } from './resume.js';
import type { SavedState } from './session.js';
import { StretchLog } from './stretches.js';

/** Thrown through the machine to take the run again from its start. */
export class Rewind extends Error {}
/** Thrown through the machine to end the session. */
export class Quit extends Error {}

/** Thrown up to atBoundary() to pause the handler: the way back begins at a checkpoint. */
class Jump extends Error {}

const NO_FINDINGS: readonly Finding[] = [];

/** What a pilot works with. */
export interface PilotParts {
  readonly image: PayloadImage;
  readonly breakpoints: BreakpointTable;
  readonly tape: Tape;
  /** Asks the controller. */
  readonly ask: (cause: Cause, lane: Lane | null, time: number) => Resume;
  /** The vCPU that the controller looks at. */
  readonly selected: () => number | null;
  /** Whether somebody wants the run to stop; asking takes the wish back. */
  readonly takeInterrupt: () => boolean;
  readonly savedState: (name: string) => SavedState | undefined;
}

export class Pilot implements DebugHook {
  readonly log = new StretchLog();
  readonly #parts: PilotParts;
  readonly #armed: ArmedBreakpoints;
  readonly #hits: HitFinder;
  readonly #planner: Planner;
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
  /** The scenario is over, and its last step can be taken up in the middle. */
  #canTakeUp = false;
  /** Where the run was last told to go on. */
  #resumedAt = -1;
  #findingsSeen = 0;
  #lastLane: Lane | null = null;
  /** Addresses that events have interrupted since the last boundary of the core at hand. */
  #taken: bigint[] = [];
  /** RIP at the last boundary. */
  #shownAt = -1n;
  /** The time of the boundary at hand. */
  now = 0;
  /** Whether findings stop the run. */
  stopsAtFindings = true;
  /** Steps and stops are this vCPU's alone; null for all. */
  onlyVcpu: number | null = null;

  constructor(parts: PilotParts) {
    this.#parts = parts;
    this.#armed = new ArmedBreakpoints(parts.breakpoints, parts.image);
    this.#hits = new HitFinder(parts.breakpoints, this.#armed);
    this.#planner = new Planner({
      log: this.log,
      tape: parts.tape,
      savedState: parts.savedState,
      onlyVcpu: () => this.onlyVcpu,
      hits: (lane, time) => this.#hitsAt(lane, time),
      checkpointBefore: (time) => this.#checkpointBefore(time)?.time ?? 0,
    });
  }

  /** A machine that begins the run. */
  attach(machine: Machine): void {
    this.#machine = machine;
    machine.debug = this;
    machine.ledger.onFinding = () => {
      if (this.stopsAtFindings) this.#lastLane?.pcpu.endSoon();
    };
    this.log.restart();
    this.#parts.tape.rewind();
    this.#armed.restart();
    this.#hits.forget();
    this.#checkpoints.clear();
    this.#atPause = null;
    this.#canTakeUp = false;
    this.#lastLane = null;
  }

  hasBreakpoint(address: bigint): boolean {
    return this.#armed.has(address);
  }

  stopsFetch(lane: Lane, address: bigint): boolean {
    return address !== this.#shownAt && this.#armed.wants(lane, address);
  }

  watched(lane: Lane, access: WatchedAccess): void {
    this.#hits.note(lane, access);
  }

  delivered(lane: Lane, interrupted: bigint): void {
    if (lane !== this.#lastLane) this.#taken = [];
    this.#lastLane = lane;
    this.#taken.push(interrupted);
  }

  entryRefused(lane: Lane): void {
    this.log.retiredWithoutTick(lane);
  }

  left(lane: Lane, stop: StopReason, wasBoundary: boolean): void {
    this.log.left(lane, stop, wasBoundary);
  }

  atBoundary(lane: Lane): number {
    const time = this.log.arrive(lane);
    if (lane !== this.#lastLane) this.#taken = [];
    this.#lastLane = lane;
    this.now = time;
    const { tape } = this.#parts;
    if (tape.nextTime <= time) tape.play(this.#machine!, time);
    if (this.#isCheckpointDue(time)) {
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
    this.#taken = [];
    this.#shownAt = lane.rip;
    return Math.max(1, Math.min(budget, tape.nextTime - time));
  }

  #isCheckpointDue(time: number): boolean {
    const target = beginOf(this.#mode) ?? time;
    return this.#checkpoints.isDue(time, target, this.#machine!) && this.log.mark() !== null;
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
      this.#checkpoints.add({ time: this.now, snapshot, mark, applied, taken: this.#taken });
      return;
    }
    machine.restore(what.snapshot);
    this.log.restore(what.mark, machine.paused!);
    this.#parts.tape.applied = what.applied;
    this.#taken = [...what.taken];
    this.#lastLane = machine.paused;
    this.#checkpoints.restored();
    this.#hits.forget();
  }

  /** Takes the way back: from a checkpoint where one can be restored, else from the start. @throws always. */
  #rewind(): never {
    const found = this.#wayBegin();
    if (found === null) throw new Rewind();
    this.#atPause = found;
    throw new Jump();
  }

  /** The checkpoint at which the way back begins; null for the start of the run. */
  #wayBegin(): Checkpoint | null {
    return this.#parts.tape.isStale ? null : this.#checkpointBefore(beginOf(this.#mode) ?? 0);
  }

  /** The last checkpoint at or before a time that can be restored from here. */
  #checkpointBefore(time: number): Checkpoint | null {
    const machine = this.#machine!;
    if (!this.#canTakeUp) return this.#checkpoints.before(time, machine);
    return this.#checkpoints.before(time, machine, machine.lastActivation);
  }

  /** The scenario is over; how the run goes on: from its start, or by taking up the last step where it can be. */
  ended(error: HarnessError | null, canTakeUp: boolean): 'rewind' | 'take-up' {
    this.#canTakeUp = canTakeUp && error === null;
    this.#askAtEnd(error);
    const found = this.#wayBegin();
    if (found === null) return 'rewind';
    this.#atPause = found;
    this.#canTakeUp = false;
    this.#machine!.takeUp(found.snapshot.paused!);
    return 'take-up';
  }

  /** Asks the controller until its wish leads back. @throws Quit */
  #askAtEnd(error: HarnessError | null): void {
    for (;;) {
      const mode = this.#mode;
      const time = this.log.end;
      this.now = time;
      switch (mode.kind) {
        case 'scan':
          if (this.#go(mode.scan.then(), time)) return;
          break;
        case 'reach': {
          if (mode.cause.kind === 'start') {
            this.#mode = { kind: 'end' };
            break;
          }
          const why = `the run ends after exit ${this.log.exits}`;
          const cause: Cause = { kind: 'not-reached', position: mode.position, why };
          if (this.#go(replayTo(mode.origin, cause), time)) return;
          break;
        }
        case 'replay': {
          // Only a change that a recording brought can end a run sooner than it once went.
          if (mode.target !== time && error === null)
            throw new HarnessBug(`replay: ended before time ${mode.target}`);
          const isEnd = mode.target !== time || mode.cause.kind === 'done';
          if (this.#ask(isEnd ? this.#end(error) : mode.cause, null, time)) return;
          break;
        }
        case 'forward':
        case 'end':
          if (this.#ask(this.#end(error), null, time)) return;
          break;
        default:
          return unreachable(mode);
      }
    }
  }

  #end(error: HarnessError | null): Cause {
    return { kind: 'ended', error, findings: this.#freshFindings() };
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
    this.#hits.take(this.#machine!);
    const here = lane ?? this.#lastLane;
    return this.#go(
      this.#planner.plan(resume, { time, lane: here, mover: this.#mover(here) }),
      time,
    );
  }

  /** The lane whose steps a wish counts. */
  #mover(here: Lane | null): Lane | null {
    const wanted = this.onlyVcpu ?? this.#parts.selected();
    return this.#machine!.lanes.find(({ id }) => id === wanted) ?? here;
  }

  /** Takes a mode; whether it begins before `time`. */
  #go(mode: Mode, time: number): boolean {
    this.#mode = mode;
    if (this.#parts.tape.isStale) return true;
    if (mode.kind === 'replay') return mode.target < time;
    return mode.kind === 'scan';
  }

  #causeAt(lane: Lane, time: number): Cause | null {
    const mode = this.#mode;
    switch (mode.kind) {
      case 'forward':
        return time === this.#resumedAt ? null : this.#forwardCause(mode.goal, lane, time);
      case 'end':
        return this.#parts.takeInterrupt() ? { kind: 'interrupted' } : null;
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
    const verdict = goal.at(lane, time, this.#taken);
    const isWanted = this.#parts.takeInterrupt();
    // Before the wish to stop: a controller goes on from that as if it had not come, and what was hit here would be lost.
    const hits = this.#hits.count(this.#hitsAt(lane, time));
    const findings = this.#freshFindings();
    if (hits.breakpoints.length > 0) return { kind: 'breakpoint', ...hits, findings };
    if (findings.length > 0) return { kind: 'finding', findings };
    if (verdict !== 'go on') return { kind: verdict };
    return isWanted ? { kind: 'interrupted' } : null;
  }

  /** Findings that no stop has told of, unless they stop nothing. */
  #freshFindings(): readonly Finding[] {
    const { findings } = this.#machine!.ledger;
    if (!this.stopsAtFindings || findings.length === this.#findingsSeen) return NO_FINDINGS;
    return findings.slice(this.#findingsSeen);
  }

  #hitsAt(lane: Lane, time: number): Hits {
    return this.#hits.at(lane, this.log.positionAt(time), this.#machine!);
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
    if (this.#go(replayTo(origin, failed), time)) this.#rewind();
    return failed;
  }

  #scanCause(scan: Scan, lane: Lane, time: number): Cause | null {
    if (this.#parts.takeInterrupt()) {
      if (this.#go(replayTo(scan.origin, { kind: 'interrupted' }), time)) this.#rewind();
      return this.#causeAt(lane, time);
    }
    if (time >= scan.until) {
      if (time === scan.until) scan.arrive?.(lane, this.#taken);
      if (this.#go(scan.then(), time)) this.#rewind();
      return this.#causeAt(lane, time);
    }
    if (time >= scan.from) scan.look(lane, time, this.#taken);
    return null;
  }

  #budget(lane: Lane, time: number): number {
    const mode = this.#mode;
    switch (mode.kind) {
      case 'forward':
        this.#armed.want(true, mode.goal.addresses);
        return Math.min(mode.goal.budget(lane, time), this.#hits.budget(lane));
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
        return Math.min(until - time, this.#hits.budget(lane));
      }
      default:
        return unreachable(mode);
    }
  }
}
