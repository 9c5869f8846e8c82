/**
 * The VMX instructions as a pCPU in root operation delegates them, one adapter between trap sites and the model.
 *
 * Source: vmx-instructions.ts; SDM, "VMFUNC" (VMFUNC outside VMX non-root operation).
 * Invariant: a VMfail and a read of an undefined field are told to `events`; neither stops anything here.
 */
import { HarnessBug } from '../../abi/errors.js';
import type { FieldName } from '../../abi/vmcs-fields.js';
import type { VmxPcpu } from './ports.js';
import { UNDEFINED_OPCODE, fault } from './root/outcome.js';
import type {
  VmxInstructionName,
  VmxInstructionPort,
  VmxInstructionResult,
  VmxOperands,
} from './root/root-cpu.js';
import { execute, type VmxInstruction } from './vmx-instructions.js';

/** What a machine may want to know of VMX instructions that completed. */
export interface VmxInstructionEvents {
  /** VMREAD delivered the value of a field that the architecture leaves undefined. */
  onPoisonRead(cpu: VmxPcpu, field: FieldName): void;
  /** The instruction ended in VMfail; `error` is null for VMfailInvalid. */
  onVmfail(cpu: VmxPcpu, name: VmxInstructionName, error: number | null): void;
}

/** Events that do nothing. */
export const NO_VMX_INSTRUCTION_EVENTS: VmxInstructionEvents = {
  onPoisonRead: () => undefined,
  onVmfail: () => undefined,
};

/** The port that a pCPU's trap sites call. */
export function vmxInstructionPort(
  events: VmxInstructionEvents = NO_VMX_INSTRUCTION_EVENTS,
): VmxInstructionPort {
  return {
    execute(cpu, name, operands): VmxInstructionResult {
      // VMFUNC is a guest's instruction.
      if (name === 'VMFUNC') return UNDEFINED_OPCODE;
      const result = execute(cpu, instructionOf(name, operands));
      switch (result.kind) {
        case 'succeed':
          if (result.poison !== undefined) events.onPoisonRead(cpu, result.poison);
          return { kind: 'done', value: result.value ?? null };
        case 'vmfail-invalid':
          events.onVmfail(cpu, name, null);
          return { kind: 'done', value: null };
        case 'vmfail-valid':
          events.onVmfail(cpu, name, result.error);
          return { kind: 'done', value: null };
        case 'exception':
          return fault(result.vector, result.errorCode);
        case 'entry':
          throw new HarnessBug(`${name} entered a guest`);
      }
    },
  };
}

function instructionOf(
  name: Exclude<VmxInstructionName, 'VMFUNC'>,
  operands: VmxOperands,
): VmxInstruction {
  const [first = 0n, second = 0n, third = 0n] = operands;
  switch (name) {
    case 'VMXON':
    case 'VMPTRLD':
    case 'VMCLEAR':
      return { name, pointer: first };
    case 'VMREAD':
      return { name, encoding: first };
    case 'VMWRITE':
      return { name, encoding: first, value: second };
    case 'INVEPT':
    case 'INVVPID':
      return { name, type: first, descriptor: [second, third] };
    case 'VMXOFF':
    case 'VMPTRST':
    case 'VMCALL':
      return { name };
  }
}
