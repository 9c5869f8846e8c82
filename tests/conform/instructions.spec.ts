import { afterEach, describe, expect, it, vi } from 'vitest';
import { Random } from '../../emulator/clock/random.js';
import { compareSequences, type SequenceResult } from '../../emulator/conform/instructions.js';
import { ENFORCEMENT_DIFFERENCES } from '../../emulator/conform/known-enforcement-differences.js';
import { KNOWN_INSTRUCTION_DIFFERENCES } from '../../emulator/conform/known-instruction-differences.js';
import { SecondMachine } from '../../emulator/conform/second-machine.js';
import {
  ON_SHADOW_STACKS,
  enforcedSequences,
  randomSequences,
  systematicSequences,
} from '../../emulator/conform/sequences.js';
import { CoreAddressSpaces } from '../../emulator/machine/core.js';
import { MsrFile } from '../../emulator/vmx/root/msr-file.js';
import { MSR } from '../../abi/msrs.js';
import { BOCHS, HAS_BOCHS } from './bochs-here.js';

const unexplained = (results: readonly SequenceResult[]): string[] =>
  results
    .filter(({ differences, known }) => differences.length > 0 && known === null)
    .map(({ sequence, differences }) => {
      const values = differences.map(({ what, model, second }) => `${what} ${model} ${second}`);
      return `${sequence.title}: ${values.join('; ')}`;
    });

const knownIn = (results: readonly SequenceResult[]): Set<string> =>
  new Set(results.flatMap(({ known }) => (known === null ? [] : [known.id])));

afterEach(() => {
  vi.restoreAllMocks();
});

describe.skipIf(!HAS_BOCHS)(`instructions of a payload's kinds ${BOCHS}`, () => {
  const machine = HAS_BOCHS ? new SecondMachine() : undefined;

  it('do the same on both machines, each on its own', () => {
    const results = compareSequences(machine!, systematicSequences(1, new Random(11)));
    expect(unexplained(results)).toEqual([]);
    expect(results.filter(({ differences }) => differences.length === 0).length).toBeGreaterThan(
      430,
    );
    const ordinary = KNOWN_INSTRUCTION_DIFFERENCES.filter(
      (one) => !ENFORCEMENT_DIFFERENCES.includes(one),
    );
    expect(knownIn(results)).toEqual(new Set(ordinary.map(({ id }) => id)));
  });

  it('end a run, and say at what, wherever the engine is known to do otherwise', () => {
    const results = compareSequences(machine!, systematicSequences(1, new Random(12)));
    const ours = results.filter(({ known }) => known?.culprit === 'engine');
    expect(ours.length).toBeGreaterThan(10);
    for (const { differences } of ours) {
      expect(differences).toHaveLength(1);
      expect(differences[0]!.what).toBe('end');
      expect(differences[0]!.model).toMatch(/^unmodelled .+: /);
    }
  });

  it('do the same in random sequences, exceptions and their delivery included', () => {
    const results = compareSequences(machine!, randomSequences(120, 12, new Random(5)));
    expect(unexplained(results)).toEqual([]);
    const agreeing = results.filter(({ differences }) => differences.length === 0);
    expect(agreeing.length).toBeGreaterThan(110);
  });

  it('do the same under shadow stacks and indirect branch tracking', () => {
    const results = compareSequences(machine!, enforcedSequences(new Random(13)));
    expect(unexplained(results)).toEqual([]);
    expect(results.filter(({ differences }) => differences.length === 0).length).toBeGreaterThan(
      140,
    );
    for (const { id } of ENFORCEMENT_DIFFERENCES) expect(knownIn(results)).toContain(id);
  });

  it('do the same in random sequences on shadow stacks', () => {
    const sequences = randomSequences(60, 12, new Random(6), ON_SHADOW_STACKS);
    expect(unexplained(compareSequences(machine!, sequences))).toEqual([]);
  });

  it('differ when the model has no shadow stacks', () => {
    const read = vi.spyOn(MsrFile.prototype, 'read');
    read.mockImplementation((index) => (index === MSR.IA32_S_CET ? 0n : undefined));
    const calls = enforcedSequences(new Random(1)).filter(({ title }) =>
      title.startsWith('call; rdsspq; ret'),
    );
    expect(unexplained(compareSequences(machine!, calls))).toHaveLength(1);
  });

  it('differ when the model of page faults is switched off', () => {
    vi.spyOn(CoreAddressSpaces.prototype, 'check').mockReturnValue(null);
    const stores = systematicSequences(1, new Random(1)).filter(
      ({ title }) => title === 'store to a read-only page',
    );
    expect(unexplained(compareSequences(machine!, stores))).toEqual([
      'store to a read-only page: end finding halted',
    ]);
  });
});
