import { snapshots } from './suites/snapshots.js';

snapshots();
