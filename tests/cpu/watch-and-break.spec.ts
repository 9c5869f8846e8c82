import { watchAndBreak } from './suites/watch-and-break.js';

watchAndBreak();
