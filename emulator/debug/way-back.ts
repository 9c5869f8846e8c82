/**
 * The ways back: from a wish turned round to the boundary of the past that fulfils it.
 *
 * Most are told by counting. What depends on calls, lines or breakpoints is found by a scan: the machine goes back, runs
 * forwards again and is looked at, and the last fitting boundary is the one.
 * Source: what gdb's reverse-step, reverse-next, reverse-finish and reverse-continue mean.
 * Invariant: a way back ends before where it began, or at the beginning of the run.
 */
import { unreachable } from '../../abi/errors.js';
import type { Lane } from '../machine/lane.js';
import { CallTrace, type Passed } from './call-trace.js';
import { changesOf, type Hits } from './hits.js';
import { begin, replayTo, type Mode, type Scan } from './modes.js';
import type { Cause, Moving } from './resume.js';
import { lines, linesOverCalls, outOf, overCalls, type StepBack } from './steps-back.js';
import type { StretchLog } from './stretches.js';

/** What is known of the past, and what would stop there. */
export interface Past {
  readonly log: StretchLog;
  /** Steps and stops are this vCPU's alone; null for all. */
  onlyVcpu(): number | null;
  hits(lane: Lane, time: number): Hits;
  /** The time of the last checkpoint at or before a time; 0 without one. */
  checkpointBefore(time: number): number;
}

export class WayBack {
  readonly #past: Past;

  constructor(past: Past) {
    this.#past = past;
  }

  /** The mode that fulfils a wish backwards from a lane that stands at `time`. */
  of(resume: Moving, lane: Lane | null, time: number): Mode {
    if (time === 0 || lane === null) return begin(time);
    switch (resume.kind) {
      case 'step': {
        const target = this.#past.log.back(time, resume.count ?? 1, this.#past.onlyVcpu());
        return target === null ? begin(0) : replayTo(target);
      }
      case 'continue':
        return this.#lastHit(time, [], () => false, resume.undoes === true);
      case 'until': {
        const wanted = new Set(resume.addresses);
        return this.#lastHit(time, resume.addresses, (one) => wanted.has(one.rip));
      }
      case 'next':
        return this.#steps(lane.id, time, resume.count ?? 1, () => overCalls());
      case 'step-line': {
        const { lineOf, over, count } = resume;
        const way = over === true ? linesOverCalls : lines;
        return this.#steps(lane.id, time, count ?? 1, () => way(lineOf));
      }
      case 'step-range':
        return this.#steps(lane.id, time, 1, () => outOf(resume.ranges, resume.over === true));
      case 'finish':
        return this.#trace(lane.id, time, time, {
          note: () => undefined,
          then: (trace, from) => replayTo(trace.caller ?? from),
        });
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
    const only = this.#past.onlyVcpu();
    let last: { readonly time: number; readonly cause: Cause } | null = null;
    const until = end ?? (undoes ? time + 1 : time);
    // A segment at a time, from the last checkpoint on; what changes at its first boundary is seen by the one before.
    const start = this.#past.checkpointBefore(until - 2);
    const scan: Scan = {
      from: start,
      until,
      each: null,
      addresses,
      origin: time,
      look: (lane, at) => {
        if (only !== null && lane.id !== only) return;
        const hits = at < time ? this.#past.hits(lane, at) : changesOf(this.#past.hits(lane, at));
        if (hits.breakpoints.length > 0)
          last = { time: at, cause: { kind: 'breakpoint', ...hits, findings: [] } };
        else if (at < time && isHit(lane)) last = { time: at, cause: { kind: 'done' } };
      },
      then: () => {
        if (last !== null) return replayTo(last.time, last.cause);
        return start === 0 ? begin(0) : this.#lastHit(time, addresses, isHit, undoes, start + 1);
      },
    };
    return { kind: 'scan', scan };
  }

  /** Steps back through the exit at hand and, where they are not done at its beginning, through what came before it. */
  #steps(vcpu: number, time: number, count: number, way: () => StepBack, origin = time): Mode {
    const { log } = this.#past;
    const from = log.startOfExit(log.positionAt(time).exit);
    const beyond = (left: number): Mode => {
      const before = log.back(from, 1, this.#past.onlyVcpu());
      if (before === null) return begin(0);
      return left === 1
        ? replayTo(before)
        : this.#steps(log.at(before).vcpu, before, left - 1, way, origin);
    };
    if (from >= time) return beyond(count);
    const step = way();
    return this.#trace(vcpu, time, origin, {
      note: (lane, passed) => {
        step.note(lane, passed);
      },
      then: (trace) => {
        const { time: target, left } = trace.back(count, step);
        if (target !== null) return replayTo(target);
        return step.staysInExit ? replayTo(from) : beyond(left);
      },
    });
  }

  /** Follows the calls of the exit at hand up to `time`. */
  #trace(vcpu: number, time: number, origin: number, { note, then }: Following): Mode {
    const { log } = this.#past;
    const from = log.startOfExit(log.positionAt(time).exit);
    if (from >= time) {
      const before = log.back(time, 1, this.#past.onlyVcpu());
      return before === null ? begin(0) : replayTo(before);
    }
    const trace = new CallTrace(vcpu);
    const scan: Scan = {
      from,
      until: time,
      each: vcpu,
      addresses: [],
      origin,
      look: (lane, at, taken) => {
        if (lane.id === vcpu) note(lane, trace.look(lane, at, taken));
      },
      arrive: (lane, taken) => {
        if (lane.id === vcpu) trace.arrive(lane, taken);
      },
      then: () => then(trace, from),
    };
    return { kind: 'scan', scan };
  }
}

/** What is done with the boundaries of an exit, and where that leads. */
interface Following {
  readonly note: (lane: Lane, passed: Passed) => void;
  readonly then: (trace: CallTrace, from: number) => Mode;
}
