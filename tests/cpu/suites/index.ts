/** Every suite that must hold on each libunicorn. */
import { controlFlow } from './control-flow.js';
import { exactCount } from './exact-count.js';
import { inlineSites } from './inline-sites.js';
import { snapshots } from './snapshots.js';
import { unicornTraps } from './unicorn-traps.js';
import { watchAndBreak } from './watch-and-break.js';

export const all = [unicornTraps, exactCount, inlineSites, watchAndBreak, snapshots, controlFlow];
