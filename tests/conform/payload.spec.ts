/** Deliberate errors; that the payload does the same on both machines is in conformance.spec.ts, which runs it all. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { PayloadCase } from '../../emulator/conform/payload/cases.js';
import {
  ATTACHED,
  comparePayload,
  type PayloadResult,
} from '../../emulator/conform/payload/payload.js';
import { Stage, type StageSettings } from '../../emulator/conform/payload/stage.js';
import { SecondMachine } from '../../emulator/conform/second-machine.js';
import { MSR } from '../../abi/msrs.js';
import { MsrFile } from '../../emulator/vmx/root/msr-file.js';
import { RegisterFile } from '../../emulator/cpu/registers.js';
import { packageRoot } from '../../emulator/machine/package-root.js';
import { MutantTree } from '../mutants/mutant-tree.js';
import { BOCHS, HAS_BOCHS } from './bochs-here.js';

/** Offset of the address in the payload's second instruction, which saves RAX. */
const FIRST_SAVE = 9n;

const payload = (): Uint8Array =>
  readFileSync(join(packageRoot(), 'caretaker-payload', 'build', 'caretaker.elf'));

const unexplained = ({ differences }: PayloadResult): string[] =>
  differences
    .filter(({ known }) => known === null)
    .map(({ title, what, model, second }) => `${title}: ${what}: ${model} | ${second}`);

const cpuid = ATTACHED.filter(({ title }) => title === 'CPUID');
const pause = ATTACHED.filter(({ title }) => title === 'PAUSE');

afterEach(() => {
  vi.restoreAllMocks();
});

describe.skipIf(!HAS_BOCHS)(`the payload as exit handler ${BOCHS}`, () => {
  const machine = HAS_BOCHS ? new SecondMachine() : undefined;
  const compare = (attached: readonly PayloadCase[], host: StageSettings = {}): PayloadResult =>
    comparePayload(machine!, payload(), [{ host, attached, gap: [] }]);

  it('differs when a byte of the payload is another one on one side', () => {
    const { copyTo } = Object.getOwnPropertyDescriptors(Stage.prototype);
    vi.spyOn(Stage.prototype, 'copyTo').mockImplementation(function (this: Stage, program) {
      copyTo.value!.call(this, program);
      program.memory(this.places.exit + FIRST_SAVE, Uint8Array.of(0xc8));
    });
    const [first, ...rest] = unexplained(compare(cpuid));
    expect(first).toMatch(/CPUID: write 1 of the payload: 8 bytes at 0x\w+c0 .* 0x\w+c8 /);
    expect(rest.length).toBeGreaterThan(0);
  });

  it('says of a payload that never comes back how far it came', () => {
    const tree = new MutantTree();
    try {
      const endless = tree.build('rip-not-advanced');
      expect(() =>
        comparePayload(machine!, endless, [{ host: {}, attached: pause, gap: [] }]),
      ).toThrow(
        /^the payload does not come back on the second machine: it has taken \d+ exits of guests that make 2$/,
      );
    } finally {
      tree.remove();
    }
  });

  it('differs when the model loads a wrong RFLAGS', () => {
    const original = Object.getOwnPropertyDescriptors(RegisterFile.prototype).get;
    vi.spyOn(RegisterFile.prototype, 'get').mockImplementation(function (this: RegisterFile, name) {
      const value = original.value!.call(this, name);
      return name === 'RFLAGS' ? value | 0x200n : value;
    });
    expect(unexplained(compare(cpuid))).toContain('CPUID: RFLAGS at HOST_RIP: 0x202 | 0x2');
  });

  it('differs where a case says the wrong instruction length, and in what the payload makes of it', () => {
    const wrong = cpuid.map((one) => ({
      ...one,
      steps: one.steps.map((step) => ({ ...step, exit: { ...step.exit, instructionLength: 3 } })),
    }));
    const result = compare(wrong);
    const found = unexplained(result);
    expect(found[0]).toBe('CPUID: VM_EXIT_INSTRUCTION_LEN at HOST_RIP: 0x3 | 0x2');
    expect(found.some((one) => one.includes('VMWRITE GUEST_RIP = 0x110003'))).toBe(true);
    expect(result.context.join('\n')).toMatch(/VM_EXIT_INSTRUCTION_LEN +0x3 +0x2 <--/);
    expect(result.context.filter((line) => line.length > 80)).toEqual([]);
  });

  it('differs on shadow stacks when the model has none', () => {
    const { read } = Object.getOwnPropertyDescriptors(MsrFile.prototype);
    vi.spyOn(MsrFile.prototype, 'read').mockImplementation(function (this: MsrFile, index) {
      return index === MSR.IA32_S_CET ? 0n : read.value!.call(this, index);
    });
    const found = unexplained(compare(cpuid, { 'shadow-stacks': true }));
    expect(found[0]).toMatch(
      /^CPUID: write \d+ of the payload: .* \| 8 bytes at 0x\w+ff8 = 0x\w+ /,
    );
  });
});
