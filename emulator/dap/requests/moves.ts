/**
 * Requests that let the machine go on, forwards or backwards, as wishes of the session.
 *
 * Source: the Debug Adapter Protocol (`SteppingGranularity`); gdb for what a step by lines is.
 * Invariant: a step by lines ends where a statement begins, at a stop of another kind, or after 64 stretches.
 */
import type { Resume, Stop } from '../../debug/resume.js';
import type { LaneView } from '../../debug/source/lane-view.js';
import { whole } from '../arguments.js';
import type { Arguments } from '../arguments.js';
import type { AdapterState } from '../state.js';

/** A wish that may take the session several moves; `next` is asked after each that was done. */
export interface Move {
  readonly first: Resume;
  /** The move after a stop of cause `done`, or null when the wish is fulfilled. */
  readonly next: (core: LaneView) => Resume | null;
}

const MAX_STRETCHES = 64;
const single = (first: Resume): Move => ({ first, next: () => null });

/** The move that a request asks for; null for a request that moves nothing. */
export function moveOf(state: AdapterState, command: string, args: Arguments): Move | null {
  switch (command) {
    case 'continue':
      select(state, args);
      return single({ kind: 'continue' });
    case 'reverseContinue':
      select(state, args);
      return single({ kind: 'continue', backwards: true });
    case 'next':
      return stepMove(state, args, true, false);
    case 'stepIn':
      return stepMove(state, args, false, false);
    case 'stepBack':
      return stepMove(state, args, true, true);
    case 'stepOut':
      select(state, args);
      return single({ kind: 'finish' });
    default:
      return null;
  }
}

/** Steps are of the thread that a client names; the others run with it. */
function select(state: AdapterState, args: Arguments): LaneView {
  const core = state.core(whole(args, 'threadId'));
  const isOnly = args['singleThread'] === true;
  state.session.select(core.id);
  state.session.pilot.onlyVcpu = isOnly ? core.id : null;
  return core;
}

function stepMove(state: AdapterState, args: Arguments, over: boolean, backwards: boolean): Move {
  const core = select(state, args);
  const ranges = args['granularity'] === 'instruction' ? [] : rangesAt(core, core.register('RIP'));
  if (ranges.length === 0) {
    return single({ kind: over && !backwards ? 'next' : 'step', backwards });
  }
  const first: Resume = { kind: 'step-range', ranges, over, backwards };
  return backwards ? backMove(first, over) : forwardMove(first, over);
}

/** Out of the line, and on while that ends in the middle of another one, as behind a call. */
function forwardMove(first: Resume, over: boolean): Move {
  let left = MAX_STRETCHES;
  return {
    first,
    next: (core) => {
      const rip = core.register('RIP');
      if (core.sourceOf(rip)?.beginsStatement(rip) === true || left-- === 0) return null;
      const ranges = rangesAt(core, rip);
      return ranges.length === 0 ? null : { kind: 'step-range', ranges, over };
    },
  };
}

/** Back out of the line to the end of the one before, then to where that begins. */
function backMove(first: Resume, over: boolean): Move {
  let state: 'to the end' | 'to the start' | 'there' = 'to the end';
  return {
    first,
    next: (core) => {
      const rip = core.register('RIP');
      const ranges = rangesAt(core, rip);
      if (state === 'to the end' && ranges.length > 0) {
        const isStart = core.sourceOf(rip)?.beginsStatement(rip) === true;
        const isAlone = ranges.some(({ start }) => start === rip);
        if (isStart && isAlone) return null;
        state = 'to the start';
        return { kind: 'step-range', ranges, over, backwards: true };
      }
      if (state !== 'to the start') return null;
      // That left the line backwards by one instruction.
      state = 'there';
      return { kind: over ? 'next' : 'step' };
    },
  };
}

function rangesAt(core: LaneView, rip: bigint): ReturnType<typeof lineRanges> {
  return lineRanges(core, rip);
}

function lineRanges(
  core: LaneView,
  rip: bigint,
): readonly { readonly start: bigint; readonly end: bigint }[] {
  return core.sourceOf(rip)?.lineRanges(rip) ?? [];
}

/** Whether a stop ends a move that is under way. */
export function endsMove({ cause }: Stop): boolean {
  return cause.kind !== 'done';
}
