import { unicornTraps } from './suites/unicorn-traps.js';

unicornTraps();
