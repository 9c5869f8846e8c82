/**
 * What one step back is: an instruction over calls, a line, or the way out of ranges.
 *
 * Source: what gdb's reverse-nexti, reverse-step and reverse-next mean.
 * Invariant: a step back by lines ends where a step forwards would have stopped, had it begun with the exit.
 */
import type { Lane } from '../machine/lane.js';
import type { Passed, Wanted } from './call-trace.js';
import { LineWalk } from './line-walk.js';
import type { AddressRange, LineOf } from './resume.js';

/** One kind of step; it is told of every boundary of an exit in order, and then asked. */
export interface StepBack extends Wanted {
  /** Whether it ends with the exit that it began in. */
  readonly staysInExit: boolean;
  readonly note: (lane: Lane, passed: Passed) => void;
}

/** An instruction of the frame at hand; a call is one. */
export function overCalls(): StepBack {
  return { isDeep: false, staysInExit: false, note: () => undefined, isWanted: () => true };
}

/** Out of ranges. */
export function outOf(ranges: readonly AddressRange[], isOver: boolean): StepBack {
  return {
    isDeep: !isOver,
    staysInExit: true,
    note: () => undefined,
    isWanted: ({ rip }) => !ranges.some(({ start, end }) => rip >= start && rip < end),
  };
}

/** To the beginning of the line at hand, or of the one that ran before, whosever that is. */
export function lines(lineOf: LineOf): StepBack {
  return byLines(lineOf, true, () => 0);
}

/** To the beginning of the line at hand, or of the one before it in this frame. */
export function linesOverCalls(lineOf: LineOf): StepBack {
  return byLines(lineOf, false, ({ depth }) => depth);
}

function byLines(lineOf: LineOf, isDeep: boolean, levelOf: (passed: Passed) => number): StepBack {
  const begun = new Set<number>();
  /** Of each level of calls that is open. */
  const walks: LineWalk[] = [];
  return {
    isDeep,
    staysInExit: false,
    note: (lane, passed) => {
      const level = levelOf(passed);
      const line = lineOf(lane, passed.rip);
      walks.length = Math.min(walks.length, level + 1);
      const walk = walks[level];
      if (walk === undefined) walks[level] = new LineWalk(line);
      if (walk?.begins(line) !== false) begun.add(passed.time);
    },
    isWanted: ({ time }) => begun.has(time),
  };
}
