/**
 * Payload files with a changed byte in what is loaded: each is refused with a code, or runs to a verdict under an
 * instruction bound. The machine never throws anything but its own typed refusals, and never hangs.
 */
import { describe, expect, it } from 'vitest';
import { LoaderError } from '../../loader/errors.js';
import { parseElf } from '../../loader/elf.js';
import { place } from '../../loader/place.js';
import { Random } from '../../emulator/clock/random.js';
import { CCB_RULE } from '../../emulator/host/kvm/ccb-rule.js';
import { Conductor, ConductorError } from '../../emulator/machine/conductor.js';
import { parseScenario } from '../../emulator/machine/scenario/load.js';
import { referencePayload } from '../support/reference-payload.js';

/** Files that are judged; of those that load, RUNS are run, spread over all. HOSTILE_RUNS=10000 runs every one. */
const FILES = 10_000;
const RUNS = Number.parseInt(process.env['HOSTILE_RUNS'] ?? '200', 10);
/** No file may take longer to judge, in processor time, or more memory. */
const LIMIT_MS = 100;
const LIMIT_BYTES = 200 * 1024 * 1024;

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

/** A verdict of the checker; the slowest of all is measured. */
function judge(file: Uint8Array): { readonly code: string; readonly milliseconds: number } {
  const start = process.cpuUsage();
  const milliseconds = (): number => {
    const { user, system } = process.cpuUsage(start);
    return (user + system) / 1000;
  };
  try {
    place(parseElf(file, CCB_RULE), 0x10_0000n);
    return { code: 'accepted', milliseconds: milliseconds() };
  } catch (error) {
    if (!(error instanceof LoaderError)) throw error;
    return { code: error.code, milliseconds: milliseconds() };
  }
}

/** Runs to a verdict: a finding, a call that the host refuses, or a clean end. */
function run(file: Uint8Array): string {
  const conductor = new Conductor(scenario, file, false, { maxSteps: 2_000 });
  try {
    conductor.run();
  } catch (error) {
    // A payload that does not come back makes a host call time out: that is an answer too.
    if (!(error instanceof ConductorError)) throw error;
    return error.code;
  } finally {
    // Hundreds of engines would wait for the garbage collector, which does not know what they hold.
    for (const { engine } of conductor.machine.cores) engine.dispose();
  }
  return conductor.machine.ledger.clean ? 'clean' : 'finding';
}

describe('ten thousand payload files with changed bytes', () => {
  it(
    `are refused with a code, or run to a verdict (at most ${RUNS})`,
    () => {
      const random = new Random(Number.parseInt(process.env['FC_SEED'] ?? '1', 10));
      const codes = new Map<string, number>();
      const verdicts = new Map<string, number>();
      const count = (counts: Map<string, number>, what: string): void => {
        counts.set(what, (counts.get(what) ?? 0) + 1);
      };
      const memory = process.memoryUsage().rss;
      const slow: Uint8Array[] = [];
      const accepted: Uint8Array[] = [];
      for (let n = 0; n < FILES; n++) {
        const file = mutate(referencePayload(), random);
        const { code, milliseconds } = judge(file);
        count(codes, code);
        if (milliseconds >= LIMIT_MS) slow.push(file);
        if (code === 'accepted' && (RUNS >= FILES || accepted.length < 2 * RUNS))
          accepted.push(file);
      }
      expect(process.memoryUsage().rss - memory).toBeLessThan(
        LIMIT_BYTES + accepted.length * referencePayload().length,
      );
      // The machine may be busy, so a slow one is judged again: the best of ten counts.
      const best = (file: Uint8Array): number =>
        Math.min(...Array.from({ length: 10 }, () => judge(file).milliseconds));
      expect(slow.filter((file) => best(file) >= LIMIT_MS)).toEqual([]);
      expect(codes.size).toBeGreaterThan(10);
      const step = Math.max(1, Math.floor(accepted.length / RUNS));
      const tried = accepted.filter((_, n) => n % step === 0).slice(0, RUNS);
      for (const file of tried) count(verdicts, run(file));
      // Some changes do no harm, some are found out, some make the host give up: the three there are.
      expect(tried.length).toBeGreaterThan(Math.min(RUNS, 1000) / 2);
      expect([...verdicts.keys()].sort()).toEqual(
        expect.arrayContaining(['clean', 'finding']) as string[],
      );
    },
    (RUNS + 1000) * 1000,
  );
});
