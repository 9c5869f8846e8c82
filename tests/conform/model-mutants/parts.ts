/**
 * What conform compares, in parts, for a model with an error in it: bundled with the mutant's sources and called from there.
 *
 * Invariant: the second machine's side is the caller's, which boots an image once whatever the model does with the answers.
 */
import { Random } from '../../../emulator/clock/random.js';
import { compareAborts } from '../../../emulator/conform/aborts.js';
import type { CaseResult } from '../../../emulator/conform/case-result.js';
import { compareEntries, rowAttempts, type Attempt } from '../../../emulator/conform/entry-rows.js';
import { valueAttempts } from '../../../emulator/conform/entry-values.js';
import { bitAttempts } from '../../../emulator/conform/entry-variants.js';
import { compareExits } from '../../../emulator/conform/exits.js';
import { compareSequences } from '../../../emulator/conform/instructions.js';
import { APIC_CASES, randomApicCases } from '../../../emulator/conform/local-apic-cases.js';
import { compareLocalApic } from '../../../emulator/conform/local-apic.js';
import { MSR_CASES } from '../../../emulator/conform/msr-cases.js';
import { msrListAttempts } from '../../../emulator/conform/msr-list-attempts.js';
import { SecondMachine, type Boot } from '../../../emulator/conform/second-machine.js';
import { enforcedSequences, systematicSequences } from '../../../emulator/conform/sequences.js';
import { compareVmxInstructions } from '../../../emulator/conform/vmx-instructions.js';

/** The parts by name. */
export type Part =
  'rows' | 'values' | 'bits' | 'exits' | 'aborts' | 'vmx' | 'apic' | 'instructions';

/** A difference, and the id of the known one that explains it. */
export interface PartDifference {
  readonly text: string;
  readonly known: string | null;
}

const SEED = 1;
const RANDOM_CASES = 20;

function entries(machine: SecondMachine, attempts: readonly Attempt[]): PartDifference[] {
  return compareEntries(machine, attempts)
    .filter(({ model, second }) => model !== second)
    .map(({ attempt, model, second, known }) => ({
      text: `${attempt.title}: ${model} | ${second}`,
      known: known?.id ?? null,
    }));
}

function cases(results: readonly CaseResult[]): PartDifference[] {
  return results.flatMap(({ title, differences }) =>
    differences.map(({ what, model, second, known }) => ({
      text: `${title}: ${what}: ${model} | ${second}`,
      known: known?.id ?? null,
    })),
  );
}

function sequences(machine: SecondMachine): PartDifference[] {
  const random = new Random(SEED);
  const all = [...systematicSequences(1, random), ...enforcedSequences(random)];
  return compareSequences(machine, all)
    .filter(({ differences }) => differences.length > 0)
    .map(({ sequence, differences: [first], known }) => ({
      text: `${sequence.title}: ${first!.what}: ${first!.model} | ${first!.second}`,
      known: known?.id ?? null,
    }));
}

const PARTS: Readonly<Record<Part, (machine: SecondMachine) => PartDifference[]>> = {
  rows: (machine) => entries(machine, [...rowAttempts(machine.capabilities), ...msrListAttempts()]),
  values: (machine) => entries(machine, valueAttempts(machine.capabilities)),
  bits: (machine) => entries(machine, bitAttempts(machine.capabilities)),
  exits: (machine) => cases(compareExits(machine)),
  aborts: (machine) => cases(compareAborts(machine)),
  vmx: (machine) => cases(compareVmxInstructions(machine)),
  apic: (machine) => {
    const random = randomApicCases(RANDOM_CASES, new Random(SEED));
    return cases(compareLocalApic(machine, [...MSR_CASES, ...APIC_CASES, ...random]));
  },
  instructions: sequences,
};

/** Where the machines differ. */
export function differences(part: Part, boot: Boot): PartDifference[] {
  return PARTS[part](new SecondMachine(boot));
}
