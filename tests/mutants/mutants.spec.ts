/** Broken payloads are caught by the invariant that names the fault, and the reference payload is clean. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Conductor } from '../../emulator/machine/conductor.js';
import { ConductorError } from '../../emulator/machine/conductor.js';
import { INTERLEAVED_PATCHES } from '../explore/interleaved-mutants.js';
import { EXPLORED_MUTANTS } from '../explore/mutants.js';
import { MUTANTS } from './mutants.js';
import { MutantTree, patchNames } from './mutant-tree.js';
import { makeTrial, TRIALS, type TrialName } from './scenarios.js';

let tree: MutantTree;
beforeAll(() => {
  tree = new MutantTree();
});
afterAll(() => {
  tree.remove();
});

/** Runs to the end, or to where the breach itself stops the update. */
function run(conductor: Conductor): Conductor {
  try {
    conductor.run();
  } catch (error) {
    if (!(error instanceof ConductorError)) throw error;
  }
  return conductor;
}

const findings = ({ machine }: Conductor): readonly string[] =>
  machine.ledger.findings.map(({ invariant, message }) => `${invariant}: ${message}`);

describe('the reference payload is clean', () => {
  it.each(Object.keys(TRIALS) as TrialName[])('in %s', (trial) => {
    const conductor = makeTrial(trial, tree.reference);
    conductor.run();
    expect(findings(conductor)).toEqual([]);
  });
});

describe('a mutant is caught by the invariant that names its fault', () => {
  it('and every patch is tried', () => {
    const alone = [...MUTANTS, ...EXPLORED_MUTANTS].map(({ patch }) => patch);
    const tried = [...alone, ...INTERLEAVED_PATCHES];
    expect([...new Set(tried)].sort()).toEqual([...patchNames()].sort());
  });

  it.each(MUTANTS)('$patch: $invariant in $trial', ({ patch, invariant, says, trial }) => {
    const { ledger } = run(makeTrial(trial, tree.build(patch))).machine;
    const named = ledger.findings.filter((finding) => finding.invariant === invariant);
    const said = named.map(({ message }) => message);
    expect(said.filter((message) => says.test(message))).not.toEqual([]);
    expect(ledger.results().find(({ id }) => id === invariant)?.held).toBe(false);
  });
});

describe('a host that forgets to preserve what the CPU can reach is caught', () => {
  const forgettable = ['msrBitmap', 'vmxon', 'vmcs', 'tables', 'stack'] as const;

  it.each(forgettable)('%s', (what) => {
    const conductor = makeTrial('live-update', tree.reference);
    const { machine } = conductor;
    const { isPreserved } = machine;
    machine.isPreserved = (address) =>
      isPreserved(address) &&
      !machine.lanes.some(({ vcpu }) => address >> 12n === vcpu.memory.at(what) >> 12n);
    run(conductor);
    const broken = machine.ledger.results().find(({ id }) => id === 'reachable-preserved');
    expect(broken?.held).toBe(false);
  });
});
