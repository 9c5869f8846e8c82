/**
 * Wishes of a controller that are fulfilled going forwards, each a small state machine over instruction boundaries.
 *
 * Source: what gdb's step, next, finish, until and advance mean.
 * Invariant: a goal is asked at the first boundary behind the one where it was made, and never runs past its own end; a
 * handler that ends takes the frames of its calls with it.
 */
import { unreachable } from '../../abi/errors.js';
import { toIndex } from '../../abi/uint.js';
import { flowKindAt } from './instruction-kind.js';
import { LineWalk } from './line-walk.js';
import type { Lane } from '../machine/lane.js';
import type { AddressRange, LineOf, Moving } from './resume.js';

/** What a goal says at a boundary. */
export type Verdict = 'done' | 'exit-ends' | 'go on';

/** A wish. */
export interface Goal {
  /** Addresses at which the engine is to stop for it. */
  readonly addresses: readonly bigint[];
  /** `taken`: addresses that events interrupted right before this boundary. */
  at(lane: Lane, time: number, taken: readonly bigint[]): Verdict;
  /** Instructions that may run before it is asked again. */
  budget(lane: Lane, time: number): number;
}

/** Goes on until something else stops the machine. */
export const CONTINUE: Goal = {
  addresses: [],
  at: () => 'go on',
  budget: () => Infinity,
};

/** Stops at a time. */
function untilTime(target: number): Goal {
  return {
    addresses: [],
    at: (_lane, time) => (time >= target ? 'done' : 'go on'),
    budget: (_lane, time) => target - time,
  };
}

/** `count` boundaries of one vCPU. */
export function stepsOf(vcpu: number, count: number, from: number, startsThere: boolean): Goal {
  let left = count;
  let last: { time: number; budget: number } | null = startsThere
    ? { time: from, budget: count }
    : null;
  return {
    addresses: [],
    at: (lane, time) => {
      if (lane.id !== vcpu) return 'go on';
      // Behind others' instructions the first boundary of this core is one step.
      const isSame = last !== null && time - last.time <= last.budget;
      left -= isSame ? time - last!.time : 1;
      last = null;
      return left <= 0 ? 'done' : 'go on';
    },
    budget: (lane, time) => {
      if (lane.id !== vcpu) return Infinity;
      last = { time, budget: left };
      return left;
    },
  };
}

/** To one of several addresses, by whichever vCPU of those asked for. */
function untilAddress(addresses: readonly bigint[], vcpu: number | null): Goal {
  const wanted = new Set(addresses);
  return {
    addresses,
    at: (lane) => ((vcpu === null || lane.id === vcpu) && wanted.has(lane.rip) ? 'done' : 'go on'),
    budget: () => Infinity,
  };
}

/** RSP of a lane. */
export const stackOf = (lane: Lane): bigint => lane.pcpu.registers.get('RSP');
/** What the instruction at a lane's RIP does to the flow of calls. */
export const flowOf = (lane: Lane): ReturnType<typeof flowKindAt> =>
  flowKindAt(lane.memory.bytes.bytes, toIndex(lane.rip));

/** What the frame-wise goals share: their lane, their exit, and one call at a time to run over. */
class Frame {
  readonly #vcpu: number;
  readonly #sequence: number;
  /** Where the call at hand comes back, and RSP then. */
  #over: { readonly to: bigint; readonly stack: bigint } | null = null;
  #called: bigint | null = null;

  constructor(lane: Lane) {
    this.#vcpu = lane.id;
    this.#sequence = lane.exit.sequence;
  }

  isOwn(lane: Lane): boolean {
    return lane.id === this.#vcpu;
  }

  hasEnded(lane: Lane): boolean {
    return lane.exit.sequence !== this.#sequence;
  }

  get addresses(): readonly bigint[] {
    return this.#over === null ? [] : [this.#over.to];
  }

  /** The instruction at hand is about to run; one that calls is run over. */
  leave(lane: Lane): void {
    this.#called = flowOf(lane) === 'call' ? stackOf(lane) : null;
  }

  /** Whether a call is still running. */
  isInCall(lane: Lane): boolean {
    if (this.#called !== null) {
      const stack = stackOf(lane);
      // A call that was not taken faulted; one that pushed anything else is none.
      this.#over =
        stack === this.#called - 8n
          ? { to: lane.memory.bytes.readU64(stack), stack: this.#called }
          : null;
      this.#called = null;
    }
    if (this.#over === null) return false;
    if (lane.rip === this.#over.to && stackOf(lane) >= this.#over.stack) this.#over = null;
    return this.#over !== null;
  }

  get isRunningOver(): boolean {
    return this.#over !== null;
  }
}

/** `count` instructions of the frame at hand. */
function nextGoal(lane: Lane, count: number): Goal {
  const frame = new Frame(lane);
  let left = count;
  frame.leave(lane);
  return {
    get addresses() {
      return frame.addresses;
    },
    at: (now) => {
      if (!frame.isOwn(now)) return 'go on';
      if (frame.hasEnded(now)) return left === 1 && !frame.isRunningOver ? 'done' : 'exit-ends';
      if (frame.isInCall(now)) return 'go on';
      if (--left <= 0) return 'done';
      frame.leave(now);
      return 'go on';
    },
    budget: (now) => (frame.isOwn(now) && !frame.isRunningOver ? 1 : Infinity),
  };
}

/** Until RIP is outside `ranges`. */
function rangeGoal(lane: Lane, ranges: readonly AddressRange[], isOver: boolean): Goal {
  const frame = new Frame(lane);
  if (isOver) frame.leave(lane);
  return {
    get addresses() {
      return frame.addresses;
    },
    at: (now) => {
      if (!frame.isOwn(now)) return 'go on';
      if (frame.hasEnded(now)) return 'exit-ends';
      if (isOver && frame.isInCall(now)) return 'go on';
      const { rip } = now;
      if (!ranges.some(({ start, end }) => rip >= start && rip < end)) return 'done';
      if (isOver) frame.leave(now);
      return 'go on';
    },
    budget: (now) => (frame.isOwn(now) && !frame.isRunningOver ? 1 : Infinity),
  };
}

/** To the beginning of the `count`-th line after the one at hand; one without a line is one instruction. */
function lineGoal(lane: Lane, lineOf: LineOf, isOver: boolean, count: number): Goal {
  const frame = new Frame(lane);
  const walk = new LineWalk(lineOf(lane, lane.rip));
  let left = count;
  if (isOver) frame.leave(lane);
  return {
    get addresses() {
      return frame.addresses;
    },
    at: (now) => {
      if (!frame.isOwn(now)) return 'go on';
      if (frame.hasEnded(now)) return left === 1 && !frame.isRunningOver ? 'done' : 'exit-ends';
      if (isOver && frame.isInCall(now)) return 'go on';
      if (walk.begins(lineOf(now, now.rip)) && --left <= 0) return 'done';
      if (isOver) frame.leave(now);
      return 'go on';
    },
    budget: (now) => (frame.isOwn(now) && !frame.isRunningOver ? 1 : Infinity),
  };
}

/** Until the function at hand has returned, or its handler has; one that never does ends with its exit. */
function finishGoal(lane: Lane): Goal {
  const frame = new Frame(lane);
  const stack = stackOf(lane);
  const look = (now: Lane) => ({ flow: flowOf(now), rip: now.rip, stack: stackOf(now) });
  let last = look(lane);
  /** Handlers that have begun meanwhile and have stacks of their own. */
  let handlers = 0;
  return {
    addresses: [],
    at: (now, _time, taken) => {
      if (!frame.isOwn(now)) return 'go on';
      if (frame.hasEnded(now)) return 'exit-ends';
      const hasRun = taken[0] !== last.rip;
      if (hasRun && handlers === 0) {
        if (last.flow === 'event-return') return 'done';
        if (last.flow === 'return' && last.stack >= stack) return 'done';
      }
      if (hasRun && last.flow === 'event-return') handlers--;
      handlers += taken.length;
      last = look(now);
      return last.flow === 'entry' ? 'exit-ends' : 'go on';
    },
    budget: (now) => (frame.isOwn(now) ? 1 : Infinity),
  };
}

/** The goal of a wish that goes forwards from where a lane stands; `only` takes steps and stops of one vCPU alone. */
export function goalOf(resume: Moving, lane: Lane, time: number, only: number | null): Goal {
  switch (resume.kind) {
    case 'step': {
      const count = resume.count ?? 1;
      return only === null ? untilTime(time + count) : stepsOf(only, count, time, lane.id === only);
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
      return untilAddress(resume.addresses, only);
    case 'continue':
      return CONTINUE;
    default:
      return unreachable(resume);
  }
}
