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
import { CallTrace } from './call-trace.js';
import { stackOf } from './goals.js';
import { changesOf, type Hits } from './hits.js';
import { arriving, begin, replayTo, type Mode, type Scan } from './modes.js';
import type { Cause, LineOf, Moving } from './resume.js';
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
    const from = this.#past.log.startOfExit(this.#past.log.positionAt(time).exit);
    if (from >= time) {
      const before = this.#past.log.back(time, 1, this.#past.onlyVcpu());
      return before === null ? begin(0) : replayTo(before);
    }
    const then = (): Mode => {
      const chosen = target(from);
      return chosen < 0 ? begin(0) : replayTo(chosen);
    };
    return {
      kind: 'scan',
      scan: { from, until: time, each: lane.id, addresses: [], origin: time, look, then },
    };
  }
}
