/**
 * Requests that let the machine go on, forwards or backwards, as wishes of the session.
 *
 * Source: the Debug Adapter Protocol (`SteppingGranularity`).
 * Invariant: a request is one wish; what a step by lines is, the session knows.
 */
import type { Resume } from '../../debug/resume.js';
import type { LaneView } from '../../debug/source/lane-view.js';
import { whole } from '../arguments.js';
import type { Arguments } from '../arguments.js';
import type { AdapterState } from '../state.js';

/** The wish of a request; null for a request that moves nothing. */
export function moveOf(state: AdapterState, command: string, args: Arguments): Resume | null {
  switch (command) {
    case 'continue':
      select(state, args);
      return { kind: 'continue' };
    case 'reverseContinue':
      select(state, args);
      return { kind: 'continue', backwards: true };
    case 'next':
      return stepOf(state, args, true, false);
    case 'stepIn':
      return stepOf(state, args, false, false);
    case 'stepBack':
      return stepOf(state, args, true, true);
    case 'stepOut':
      select(state, args);
      return state.level.finish(state.session, false);
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

function stepOf(state: AdapterState, args: Arguments, over: boolean, backwards: boolean): Resume {
  select(state, args);
  if (args['granularity'] === 'instruction') {
    return { kind: over && !backwards ? 'next' : 'step', backwards };
  }
  return { kind: 'step-line', lineOf: state.level.lineOf, over, backwards };
}
