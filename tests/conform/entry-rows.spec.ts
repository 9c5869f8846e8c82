import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { hex } from '../../abi/uint.js';
import { Random } from '../../emulator/clock/random.js';
import {
  compareEntries,
  rowAttempts,
  type AttemptResult,
} from '../../emulator/conform/entry-rows.js';
import { bitAttempts, mixedAttempts } from '../../emulator/conform/entry-variants.js';
import { LAYOUT } from '../../emulator/conform/layout.js';
import { SecondMachine } from '../../emulator/conform/second-machine.js';
import { packageRoot } from '../../emulator/machine/package-root.js';
import { ENTRY_RULES, forgetRule } from '../../emulator/vmx/entry-checks/evaluate.js';
import { BOCHS, HAS_BOCHS } from './bochs-here.js';

const unexplained = (results: readonly AttemptResult[]): string[] =>
  results
    .filter(({ model, second, known }) => model !== second && known === null)
    .map(({ attempt, model, second }) => `${attempt.title}: model ${model}, Bochs ${second}`);

describe('the layout', () => {
  it('is the monitor’s own', () => {
    const path = join(packageRoot(), 'emulator', 'conform', 'rom', 'layout.h');
    const header = readFileSync(path, 'utf8');
    for (const [name, address] of Object.entries(LAYOUT)) {
      expect(header).toMatch(new RegExp(`#define LAYOUT_${name}\\s+${hex(address)}\\n`));
    }
  });
});

describe.skipIf(!HAS_BOCHS)(`checks of VM entry ${BOCHS}`, () => {
  const machine = HAS_BOCHS ? new SecondMachine() : undefined;

  it('end the same on both machines, row by row, but for known differences', () => {
    const results = compareEntries(machine!, rowAttempts(machine!.capabilities));
    expect(results.length).toBeGreaterThan(250);
    expect(unexplained(results)).toEqual([]);
    const agreeing = results.filter(({ model, second, offered }) => model === second && offered);
    expect(agreeing.length).toBeGreaterThan(225);
  });

  it('end the same for mixtures of broken rows', () => {
    const attempts = mixedAttempts(machine!.capabilities, 300, new Random(7));
    expect(unexplained(compareEntries(machine!, attempts))).toEqual([]);
  });

  it('end the same for each bit of the control registers and of EFER', () => {
    const names = /^(HOST|GUEST)_(CR0|CR4|IA32_EFER|RFLAGS) /;
    const attempts = bitAttempts(machine!.capabilities).filter(({ title }) => names.test(title));
    expect(attempts.length).toBeGreaterThan(400);
    expect(unexplained(compareEntries(machine!, attempts))).toEqual([]);
  });

  it('differ when the model forgets a rule', () => {
    const forgotten = ENTRY_RULES.find(({ rule }) => rule === 'TR: it must not be unusable')!;
    const attempts = rowAttempts(machine!.capabilities).filter(({ rule }) => rule === forgotten);
    const remember = forgetRule(forgotten);
    const results = compareEntries(machine!, attempts);
    remember();
    expect(unexplained(results)).toEqual([
      `${forgotten.rule}: model entered, Bochs exit 33 qualification 0x0`,
    ]);
  });
});
