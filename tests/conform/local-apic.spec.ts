import { afterEach, describe, expect, it, vi } from 'vitest';
import { Random } from '../../emulator/clock/random.js';
import { KNOWN_APIC_DIFFERENCES } from '../../emulator/conform/known-apic-differences.js';
import { APIC_CASES, randomApicCases } from '../../emulator/conform/local-apic-cases.js';
import { MSR_CASES } from '../../emulator/conform/msr-cases.js';
import { compareLocalApic } from '../../emulator/conform/local-apic.js';
import { SecondMachine } from '../../emulator/conform/second-machine.js';
import { InterruptQueue } from '../../emulator/vmx/root/interrupt-queue.js';
import { MsrFile } from '../../emulator/vmx/root/msr-file.js';
import { LocalApic } from '../../emulator/vmx/root/local-apic.js';
import { BOCHS, HAS_BOCHS } from './bochs-here.js';
import { unexplained } from './unexplained.js';

afterEach(() => {
  vi.restoreAllMocks();
});

describe.skipIf(!HAS_BOCHS)(`MSRs and the local APIC ${BOCHS}`, () => {
  const machine = HAS_BOCHS ? new SecondMachine() : undefined;

  it('answers each access the same, but for known differences', () => {
    const results = compareLocalApic(machine!, [...MSR_CASES, ...APIC_CASES]);
    expect(unexplained(results)).toEqual([]);
    const known = results.flatMap(({ differences }) => differences.map((one) => one.known?.id));
    expect(new Set(known)).toEqual(new Set(KNOWN_APIC_DIFFERENCES.map(({ id }) => id)));
    const agreeing = results.filter(({ differences }) => differences.length === 0);
    expect(agreeing.length).toBeGreaterThan(300);
  });

  it('answers random requests, ends and priorities the same', () => {
    const results = compareLocalApic(machine!, randomApicCases(40, new Random(3)));
    expect(results.filter(({ differences }) => differences.length > 0)).toEqual([]);
  });

  it('differs when an EOI of the model’s ends nothing', () => {
    vi.spyOn(LocalApic.prototype, 'eoi').mockImplementation(() => undefined);
    const ended = APIC_CASES.filter(({ title }) => title === 'EOI ends the highest in service');
    expect(unexplained(compareLocalApic(machine!, ended))).toEqual([
      'EOI ends the highest in service: RDMSR 0x813: model 0x2, Bochs 0x0',
    ]);
  });

  it('differs when the model takes any value for an MSR', () => {
    vi.spyOn(MsrFile.prototype, 'write').mockReturnValue(true);
    const bad = MSR_CASES.filter(({ title }) => /IA32_(PAT = 2|LSTAR = 800000000000)$/.test(title));
    expect(unexplained(compareLocalApic(machine!, bad))).toHaveLength(2);
  });

  it('differs when the model does not look at priorities', () => {
    vi.spyOn(InterruptQueue.prototype, 'priority', 'get').mockReturnValue(0);
    const results = compareLocalApic(machine!, randomApicCases(10, new Random(3)));
    expect(unexplained(results).length).toBeGreaterThan(5);
  });
});
