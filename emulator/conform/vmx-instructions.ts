/**
 * VMX instructions of root operation on both machines: how each ends, with what number, and what it delivers.
 *
 * Source: SDM, "Conventions" (VMsucceed, VMfailInvalid, VMfailValid); the model is execute() of emulator/vmx.
 * Invariant: a value that the architecture leaves undefined is not compared.
 */
import { HarnessBug, unreachable } from '../../abi/errors.js';
import { hex } from '../../abi/uint.js';
import type { VmxCapabilities } from '../vmx/capabilities.js';
import { execute, type VmxInstruction, type VmxResult } from '../vmx/vmx-instructions.js';
import type { Answer } from './answers.js';
import { baseVmcs } from './base-vmcs.js';
import { modelPcpu, withVmcs } from './model.js';
import type { CaseResult } from './case-result.js';
import type { MonitorProgram } from './program.js';
import type { SecondMachine } from './second-machine.js';
import { VMX_INSTRUCTION_CASES, type VmxInstructionCase } from './vmx-instruction-cases.js';

/** Executes every case on both machines. */
export function compareVmxInstructions(
  machine: SecondMachine,
  cases: readonly VmxInstructionCase[] = VMX_INSTRUCTION_CASES,
): CaseResult[] {
  const { capabilities } = machine;
  const second = machine.runCases(
    cases.length,
    [],
    (program, index) => {
      program.region();
      for (const step of cases[index]!.steps) add(program, step);
    },
    (program) => program.base(baseVmcs(capabilities)),
  );
  return cases.map(({ title, steps }, index) => {
    const { answers, stopped } = second[index]!;
    const texts = answers.flatMap((one) => (one.kind === 'vmx' ? [answerText(one)] : []));
    const model = inModel(capabilities, steps);
    // What is undefined in the model is taken as the second machine has it.
    const here = model.map((text, i) => text ?? texts[i] ?? 'no answer').join('; ');
    const there = stopped ?? texts.join('; ');
    const differs = { what: 'answers', model: here, second: there, known: null };
    return { title, differences: here === there ? [] : [differs] };
  });
}

function add(program: MonitorProgram, step: VmxInstruction): void {
  switch (step.name) {
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
    case 'VMCALL':
      throw new HarnessBug('the second machine stops at a VMCALL in root operation');
    default:
      unreachable(step);
  }
}

function answerText({ result, error, value }: Answer & { kind: 'vmx' }): string {
  if (result === 'VMfailValid') return `VMfail ${error}`;
  return result === 'VMsucceed' && value !== 0n ? `VMsucceed ${hex(value)}` : result;
}

/** A text a step; null for a value that is undefined. */
function inModel(
  capabilities: VmxCapabilities,
  steps: readonly VmxInstruction[],
): (string | null)[] {
  const pcpu = modelPcpu(capabilities);
  withVmcs(pcpu, baseVmcs(capabilities));
  return steps.map((step) => resultText(execute(pcpu, step)));
}

function resultText(result: VmxResult): string | null {
  switch (result.kind) {
    case 'succeed': {
      if (result.poison !== undefined) return null;
      const value = result.value ?? 0n;
      return value === 0n ? 'VMsucceed' : `VMsucceed ${hex(value)}`;
    }
    case 'vmfail-invalid':
      return 'VMfailInvalid';
    case 'vmfail-valid':
      return `VMfail ${result.error}`;
    case 'exception':
      return 'exception';
    case 'entry':
      return 'entry';
    default:
      return unreachable(result);
  }
}
