/**
 * VMX instructions of root operation on both machines: how each ends, with what number, and what it delivers.
 *
 * Source: SDM, "Conventions" (VMsucceed, VMfailInvalid, VMfailValid); the model is execute() of emulator/vmx.
 * Invariant: a value that the architecture leaves undefined is not compared.
 */
import { HarnessBug, unreachable } from '../../abi/errors.js';
import { EXIT_REASON } from '../../abi/exit-reasons.js';
import { hex } from '../../abi/uint.js';
import { RFLAGS, RFLAGS_ARITHMETIC } from '../cpu/registers.js';
import type { VmxCapabilities } from '../vmx/capabilities.js';
import { vmEntry } from '../vmx/vm-entry.js';
import { deliverExit } from '../vmx/vm-exit.js';
import { execute, type VmxResult } from '../vmx/vmx-instructions.js';
import type { Answer } from './answers.js';
import { baseVmcs } from './base-vmcs.js';
import { modelPcpu, withVmcs, type ModelPcpu } from './model.js';
import type { CaseResult } from './case-result.js';
import { knownVmxDifference } from './known-vmx-differences.js';
import type { MonitorProgram } from './program.js';
import type { SecondMachine } from './second-machine.js';
import {
  VMX_INSTRUCTION_CASES,
  type VmxInstructionCase,
  type VmxStep,
} from './vmx-instruction-cases.js';

/** Executes every case on both machines. */
export function compareVmxInstructions(
  machine: SecondMachine,
  cases: readonly VmxInstructionCase[] = VMX_INSTRUCTION_CASES,
): CaseResult[] {
  const { capabilities } = machine;
  const second = machine.runCases(
    cases.length,
    ['VM_EXIT_REASON'],
    (program, index) => {
      program.region();
      for (const step of cases[index]!.steps) add(program, step, capabilities.revision);
    },
    (program) => program.base(baseVmcs(capabilities)),
  );
  return cases.map(({ title, steps }, index) => {
    const { answers, stopped } = second[index]!;
    const texts = answers.flatMap(answerText);
    const model = inModel(capabilities, steps);
    // What is undefined in the model is taken as the second machine has it.
    const here = model.map((text, i) => text ?? texts[i] ?? 'no answer').join('; ');
    const there = stopped ?? texts.join('; ');
    const known = knownVmxDifference(title, here, there);
    const differs = { what: 'answers', model: here, second: there, known };
    return { title, differences: here === there ? [] : [differs] };
  });
}

function add(program: MonitorProgram, step: VmxStep, revision: number): void {
  switch (step.name) {
    case 'ENTER':
      program.enter(step.how);
      break;
    case 'VMXON':
    case 'VMCLEAR':
    case 'VMPTRLD':
      program.vmx(step.name, step.pointer);
      break;
    case 'VMREAD':
      program.vmx('VMREAD', step.encoding);
      break;
    case 'VMWRITE':
      program.vmx('VMWRITE', step.encoding, step.value);
      break;
    case 'INVEPT':
    case 'INVVPID':
      program.vmx(step.name, step.type, ...step.descriptor);
      break;
    case 'VMXOFF':
    case 'VMPTRST':
    case 'VMLAUNCH':
    case 'VMRESUME':
      program.vmx(step.name);
      break;
    case 'CR0':
    case 'CR4':
      program.control(step.name, step.value);
      break;
    case 'REVISION':
      program.values(step.region, BigInt(step.bits >>> 0) | BigInt(revision));
      break;
    case 'VMCALL':
      throw new HarnessBug('the second machine stops at a VMCALL in root operation');
    default:
      unreachable(step);
  }
}

/** The text of an answer to a step; none for what answers no step. */
function answerText(answer: Answer): string[] {
  if (answer.kind === 'entry') {
    const { kind, error, fields } = answer.entry;
    return [kind === 'exit' ? exitText(fields.get('VM_EXIT_REASON')!) : `${kind} ${error}`];
  }
  if (answer.kind !== 'vmx') return [];
  const { result, error, value, flags } = answer;
  switch (result) {
    case 'VMfailValid':
      return [`VMfail ${error}${unlessThese(flags, RFLAGS.ZF)}`];
    case 'VMfailInvalid':
      return [`${result}${unlessThese(flags, RFLAGS.CF)}`];
    case 'VMsucceed':
      return [`${result}${value === 0n ? '' : ` ${hex(value)}`}${unlessThese(flags, 0n)}`];
    case 'exception':
      return [`exception ${error}`];
  }
}

/** The arithmetic flags, where they are not those of the result. */
function unlessThese(flags: bigint, wanted: bigint): string {
  return flags === wanted ? '' : ` with flags ${hex(flags)}`;
}

const exitText = (reason: bigint): string => `exit ${hex(reason)}`;

/** A text a step; null for a value that is undefined. */
function inModel(capabilities: VmxCapabilities, steps: readonly VmxStep[]): (string | null)[] {
  const pcpu = modelPcpu(capabilities);
  withVmcs(pcpu, baseVmcs(capabilities));
  return steps.flatMap((step): (string | null)[] => {
    switch (step.name) {
      case 'ENTER':
        return [entered(pcpu, step.how)];
      case 'CR0':
      case 'CR4':
        pcpu.registers.set(step.name, step.value);
        return [];
      case 'REVISION':
        pcpu.memory.writeU32(step.region, (step.bits | capabilities.revision) >>> 0);
        return [];
      default: {
        const { registers } = pcpu;
        registers.set('RFLAGS', registers.get('RFLAGS') | RFLAGS_ARITHMETIC);
        const result = execute(pcpu, step);
        return [resultText(result, registers.get('RFLAGS') & RFLAGS_ARITHMETIC)];
      }
    }
  });
}

/** Enters; a guest that is entered exits at its first fetch. */
function entered(pcpu: ModelPcpu, how: 'launch' | 'resume'): string {
  const vmcs = pcpu.vmx.current!;
  const entry = vmEntry(pcpu, vmcs, how);
  if (entry.kind === 'vmfail') return `vmfail-valid ${entry.error}`;
  if (entry.kind === 'entered') {
    deliverExit(pcpu, vmcs, { basic: EXIT_REASON.EXIT_REASON_EPT_VIOLATION, qualification: 0n });
  }
  return exitText(vmcs.read('VM_EXIT_REASON'));
}

function resultText(result: VmxResult, flags: bigint): string | null {
  switch (result.kind) {
    case 'succeed': {
      if (result.poison !== undefined) return null;
      const value = result.value ?? 0n;
      return `VMsucceed${value === 0n ? '' : ` ${hex(value)}`}${unlessThese(flags, 0n)}`;
    }
    case 'vmfail-invalid':
      return `VMfailInvalid${unlessThese(flags, RFLAGS.CF)}`;
    case 'vmfail-valid':
      return `VMfail ${result.error}${unlessThese(flags, RFLAGS.ZF)}`;
    case 'exception':
      return `exception ${result.vector}`;
    case 'entry':
      return 'entry';
    default:
      return unreachable(result);
  }
}
