/** Every suite that must hold on each libunicorn. */
import { unicornTraps } from './unicorn-traps.js';

export const all = [unicornTraps];
