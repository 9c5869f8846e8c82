import { afterEach, describe, expect, it, vi } from 'vitest';
import { COMPARED_CASES, EXIT_CASES, compareExits } from '../../emulator/conform/exits.js';
import { KNOWN_EXIT_DIFFERENCES } from '../../emulator/conform/known-exit-differences.js';
import { SecondMachine } from '../../emulator/conform/second-machine.js';
import { RegisterFile } from '../../emulator/cpu/registers.js';
import { BOCHS, HAS_BOCHS } from './bochs-here.js';
import { unexplained } from './unexplained.js';

afterEach(() => {
  vi.restoreAllMocks();
});

describe.skipIf(!HAS_BOCHS)(`VM exits of real guest code ${BOCHS}`, () => {
  const machine = HAS_BOCHS ? new SecondMachine() : undefined;

  it('leave the same exit information, guest state, host state and registers on both', () => {
    const results = compareExits(machine!);
    expect(unexplained(results)).toEqual([]);
    expect(results).toHaveLength(COMPARED_CASES.length);
    expect(results.reduce((sum, { compared }) => sum + compared, 0)).toBeGreaterThan(10_000);
    const explained = new Set(
      results.flatMap(({ differences }) => differences.map(({ known }) => known?.id)),
    );
    expect(explained).toEqual(new Set(KNOWN_EXIT_DIFFERENCES.map(({ id }) => id)));
  });

  it('differ when the model loads a wrong RFLAGS', () => {
    const hlt = EXIT_CASES.filter(({ title }) => title === 'HLT');
    const { get } = Object.getOwnPropertyDescriptors(RegisterFile.prototype);
    vi.spyOn(RegisterFile.prototype, 'get').mockImplementation(function (this: RegisterFile, name) {
      return name === 'RFLAGS' ? 0x202n : get.value!.call(this, name);
    });
    expect(unexplained(compareExits(machine!, hlt))).toEqual([
      'HLT: RFLAGS at HOST_RIP: model 0x202, Bochs 0x2',
    ]);
  });

  it('differ when a case says the wrong instruction length', () => {
    const cpuid = EXIT_CASES.find(({ title }) => title === 'CPUID')!;
    const wrong = { ...cpuid, exit: { ...cpuid.exit, instructionLength: 3 } };
    expect(unexplained(compareExits(machine!, [wrong]))).toEqual([
      'CPUID: VM_EXIT_INSTRUCTION_LEN: model 0x3, Bochs 0x2',
    ]);
  });
});
