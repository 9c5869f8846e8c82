/**
 * From a wish to what the machine does for it.
 *
 * Source: the closed union of wishes in resume.ts.
 * Invariant: planning moves nothing; only the tape and what is known of later times change, when a wish brings other edits.
 */
import { unreachable } from '../../abi/errors.js';
import type { Lane } from '../machine/lane.js';
import type { Tape, TapeEntry } from './edits.js';
import { CONTINUE, goalOf } from './goals.js';
import { replayTo, type Mode } from './modes.js';
import type { Position } from './position.js';
import type { Resume } from './resume.js';
import type { SavedState } from './session.js';
import { WayBack, type Past } from './way-back.js';

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

  /** The mode that fulfils a wish of a controller that looks at `lane`, the machine standing at `time`. */
  plan(resume: Exclude<Resume, { kind: 'quit' }>, lane: Lane | null, time: number): Mode {
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
      case 'step':
      case 'next':
      case 'finish':
      case 'step-range':
      case 'step-line':
      case 'until':
      case 'continue':
        if (resume.backwards === true) return this.#wayBack.of(resume, lane, time);
        if (lane === null) return { kind: 'forward', goal: CONTINUE };
        return { kind: 'forward', goal: goalOf(resume, lane, time, this.#plans.onlyVcpu()) };
      default:
        return unreachable(resume);
    }
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
