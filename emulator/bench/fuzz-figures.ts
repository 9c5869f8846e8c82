/**
 * The figures of the fuzzer: exits a second of a campaign on one core, and those over plain C's.
 *
 * Invariant: one campaign for all rounds, on the measured mix, with edge coverage and every invariant on. The C harness does
 * the machine's exits (yardstick.ts) and resets nothing between them, so that the ratio errs on the hard side.
 */
import { Campaign } from '../fuzz/campaign.js';
import type { Clock, Figure } from './figure.js';
import type { Yardstick } from './yardstick.js';

/** Inputs until the corpus has settled and the hot functions are compiled, and those of a round. */
const WARM_UP = 8_000;
const ROUND = 1_000;

/** The figures for a payload. */
export function fuzzFiguresOf(payload: Uint8Array, yardstick: Yardstick): readonly Figure[] {
  let campaign: Campaign | null = null;
  let rate: number | null = null;
  const measure = (clock: Clock): number => {
    campaign ??= warm(payload);
    const before = campaign.tally.exits;
    const begun = clock();
    for (let input = 0; input < ROUND; input++) campaign.step();
    return ((campaign.tally.exits - before) * 1000) / (clock() - begun);
  };
  return [
    { name: 'fuzz.exitsPerSecond', unit: 'exits/s', measure: (clock) => (rate = measure(clock)) },
    {
      name: 'fuzz.ratioToC',
      unit: 'ratio',
      measure: (clock) => {
        const ratio = (rate ?? measure(clock)) / yardstick.harnessRate();
        rate = null;
        return ratio;
      },
    },
  ];
}

function warm(payload: Uint8Array): Campaign {
  const campaign = new Campaign({ payload, seed: 1, mix: 'measured', corpus: [] });
  for (let input = 0; input < WARM_UP; input++) campaign.step();
  return campaign;
}
