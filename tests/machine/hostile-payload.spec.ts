/**
 * Payload files with a changed byte in what is loaded: each is refused with a code, or runs to a verdict under an
 * instruction bound. The machine never throws anything but its own typed refusals, and never hangs.
 */
import { describe, expect, it } from 'vitest';
import { LoaderError } from '../../loader/errors.js';
import { parseElf } from '../../loader/elf.js';
import { Random } from '../../emulator/clock/random.js';
import { CCB_RULE } from '../../emulator/host/kvm/ccb-rule.js';
import { Conductor, ConductorError } from '../../emulator/machine/conductor.js';
import { parseScenario } from '../../emulator/machine/scenario/load.js';
import { referencePayload } from '../support/reference-payload.js';

const FILES = 10_000;
/** Of the files that load, this many are run, spread over all. */
const RUNS = 60;

const scenario = parseScenario(
  `
name: short
description: attached, a short gap, back
vcpus: 1
steps:
  - run: { exits: 12 }
  - pause-devices: true
  - preserve: {}
  - gap: { seconds: 0.01, mix: busy-gap }
  - close-session: true
  - run: { exits: 6 }
`,
  'short.yaml',
);

const mutate = (file: Uint8Array, random: Random): Uint8Array => {
  const copy = file.slice();
  // The headers and what is loaded lie at the front; debug information behind is the loader's own tests' business.
  const span = Math.min(copy.length, 0x9000);
  for (let n = 1 + random.below(3); n > 0; n--) copy[random.below(span)] = random.below(256);
  return copy;
};

describe('ten thousand payload files with changed bytes', () => {
  it('are refused with a code, or run to a verdict', () => {
    const random = new Random(Number.parseInt(process.env['FC_SEED'] ?? '1', 10));
    const loadable: Uint8Array[] = [];
    const codes = new Map<string, number>();
    for (let n = 0; n < FILES; n++) {
      const file = mutate(referencePayload(), random);
      try {
        parseElf(file, CCB_RULE);
        if (random.below(Math.ceil(FILES / RUNS)) < 2 && loadable.length < RUNS)
          loadable.push(file);
      } catch (error) {
        if (!(error instanceof LoaderError)) throw error;
        codes.set(error.code, (codes.get(error.code) ?? 0) + 1);
      }
    }
    expect(codes.size).toBeGreaterThan(10);
    expect(loadable.length).toBeGreaterThan(RUNS / 2);
    for (const file of loadable) {
      const conductor = new Conductor(scenario, file, false, { maxSteps: 2_000 });
      try {
        conductor.run();
      } catch (error) {
        // A payload that does not come back makes a host call time out: that is an answer too.
        if (!(error instanceof ConductorError)) throw error;
      }
    }
  }, 240_000);
});
