/**
 * The figures of the debugger: how fast its session steps, and how long a step back takes far into a run.
 *
 * Invariant: each is one session of the live update with nothing armed, driven as a face drives it, a stop at a time.
 */
import { debugRun } from '../debug/session.js';
import { loadScenario } from '../machine/scenario/load.js';
import type { Clock, Figure } from './figure.js';

/** Steps before the clock is read, and those that are timed. */
const WARM_UP = 50_000;
const STEPS = 200_000;
/** Where the steps back begin, and how many there are. */
const FAR = 1_000_000;
const BACK = 20;

/** The figures for a payload. */
export function debugFiguresOf(payload: Uint8Array): readonly Figure[] {
  return [
    {
      name: 'debug.stepsPerSecond',
      unit: 'steps/s',
      measure: (clock) => stepsPerSecond(payload, clock),
    },
    {
      name: 'debug.reverseStepMs',
      unit: 'ms',
      measure: (clock) => reverseStepMs(payload, clock),
    },
  ];
}

/** Single steps a second: each is a stop at which the controller is asked. */
function stepsPerSecond(payload: Uint8Array, clock: Clock): number {
  let stops = 0;
  let begun = 0;
  let ended = 0;
  debugRun({ scenario: loadScenario('live-update'), payload }, () => {
    if (stops === WARM_UP) begun = clock();
    if (stops++ < WARM_UP + STEPS) return { kind: 'step' };
    ended = clock();
    return { kind: 'quit' };
  });
  return (STEPS * 1000) / (ended - begun);
}

/** The mean of some steps back from the millionth instruction on. */
function reverseStepMs(payload: Uint8Array, clock: Clock): number {
  let stops = 0;
  let begun = 0;
  let ended = 0;
  debugRun({ scenario: loadScenario('live-update'), payload }, () => {
    if (stops === 1) begun = clock();
    if (stops++ === 0) return { kind: 'step', count: FAR };
    if (stops <= BACK + 1) return { kind: 'step', backwards: true };
    ended = clock();
    return { kind: 'quit' };
  });
  return (ended - begun) / BACK;
}
