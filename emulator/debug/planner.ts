/**
 * From a wish to what the machine does for it.
 *
 * Source: the closed union of wishes in resume.ts.
 * Invariant: planning moves nothing; only the tape and what is known of later times change, when a wish brings other edits.
 */
import { unreachable } from '../../abi/errors.js';
import type { Lane } from '../machine/lane.js';
import type { Tape, TapeEntry } from './edits.js';
import { CONTINUE, goalOf, stepsOf } from './goals.js';
import { begin, replayTo, type Mode } from './modes.js';
import type { Position } from './position.js';
import type { Moving, Resume } from './resume.js';
import type { SavedState } from './session.js';
import { WayBack, type Past } from './way-back.js';

/** Where a wish is made. */
export interface Standpoint {
  readonly time: number;
  /** The lane whose boundary is at hand; null before any has run. */
  readonly lane: Lane | null;
  /** The lane that a step is of: the same, unless the controller looks at another. */
  readonly mover: Lane | null;
}

/** What a planner knows: the past, and what can be brought back. */
export interface Plans extends Past {
  readonly tape: Tape;
  readonly savedState: (name: string) => SavedState | undefined;
}

export class Planner {
  readonly #plans: Plans;
  readonly #wayBack: WayBack;

  constructor(plans: Plans) {
    this.#plans = plans;
    this.#wayBack = new WayBack(plans);
  }

  /** The mode that fulfils a wish. */
  plan(resume: Exclude<Resume, { kind: 'quit' }>, from: Standpoint): Mode {
    const { time } = from;
    switch (resume.kind) {
      case 'end':
        return { kind: 'end' };
      case 'seek':
        return this.#seek(resume.position, time);
      case 'restore': {
        const saved = this.#plans.savedState(resume.name);
        if (saved === undefined) return replayTo(time);
        this.#load(saved.entries);
        return replayTo(saved.time);
      }
      case 'replay':
        this.#load(resume.entries);
        return { kind: 'reach', position: resume.position, origin: 0, cause: { kind: 'done' } };
      case 'continue':
      case 'until':
        return this.#moved(resume, from.lane, time);
      case 'step':
      case 'next':
      case 'finish':
      case 'step-range':
      case 'step-line':
        return from.mover === from.lane || from.mover === null
          ? this.#moved(resume, from.lane, time)
          : this.#movedOther(resume, from.mover, time);
      default:
        return unreachable(resume);
    }
  }

  #moved(resume: Moving, lane: Lane | null, time: number): Mode {
    if (resume.backwards === true) return this.#wayBack.of(resume, lane, time);
    if (lane === null) return { kind: 'forward', goal: CONTINUE };
    return { kind: 'forward', goal: goalOf(resume, lane, time, this.#plans.onlyVcpu()) };
  }

  /** Steps of a lane that is not the one at hand: where it has no code to go on in, to its nearest boundary. */
  #movedOther(resume: Moving, mover: Lane, time: number): Mode {
    const count = resume.kind === 'step' ? (resume.count ?? 1) : 1;
    if (resume.backwards === true) {
      const target = this.#plans.log.back(time, count, mover.id);
      return target === null ? begin(0) : replayTo(target);
    }
    const isCounted = resume.kind === 'step' || !mover.inExit;
    const goal = isCounted
      ? stepsOf(mover.id, count, time, false)
      : goalOf(resume, mover, time, mover.id);
    return { kind: 'forward', goal };
  }

  /** Other changes than so far, from the start. */
  #load(entries: readonly TapeEntry[]): void {
    const same = this.#plans.tape.load(entries);
    if (same !== Infinity) this.#plans.log.forget(same);
  }

  #seek(position: Position, time: number): Mode {
    const target = this.#plans.log.timeOf(position);
    if (target === 'unknown') {
      return { kind: 'reach', position, origin: time, cause: { kind: 'done' } };
    }
    if (target !== null) return replayTo(target);
    const why = `exit ${position.exit} has fewer instructions`;
    return replayTo(time, { kind: 'not-reached', position, why });
  }
}
