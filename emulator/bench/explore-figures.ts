/**
 * The figure of the explorer: the seconds of an exploration of all reasons and events at depth 1, interleavings included.
 *
 * Invariant: what is timed is what `explore` does when nothing is asked for, on one core.
 */
import { CONTRACT_EVENTS, Exploration } from '../explore/exploration.js';
import { castsTo } from '../explore/interleave/casts.js';
import { Interleavings } from '../explore/interleave/interleavings.js';
import type { Figure } from './figure.js';

const DEPTH = 1;

/** The figure for a payload. */
export function exploreFiguresOf(payload: Uint8Array): readonly Figure[] {
  return [
    {
      name: 'explore.seconds',
      unit: 's',
      measure: (clock) => {
        const begun = clock();
        const seed = 1;
        const events = CONTRACT_EVENTS;
        const exploration = new Exploration({ payload, seed, events, reasons: null, depth: DEPTH });
        const casts = castsTo(DEPTH);
        const interleavings = new Interleavings({ payload, seed, casts, isTso: false });
        for (const one of [exploration, interleavings]) {
          for (const run = one.run(); run.next().done !== true;);
          one.dispose();
        }
        return (clock() - begun) / 1000;
      },
    },
  ];
}
