import { inlineSites } from './suites/inline-sites.js';

inlineSites();
