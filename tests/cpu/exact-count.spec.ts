import { exactCount } from './suites/exact-count.js';

exactCount();
