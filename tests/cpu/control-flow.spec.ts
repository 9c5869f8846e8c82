import { controlFlow } from './suites/control-flow.js';

controlFlow();
