/**
 * The VMX instructions: fetches their operands, delegates, and stores what they return.
 *
 * Source: SDM, "VMX Instructions"; vmx-instructions.ts executes them behind VmxInstructionPort.
 * Invariant: outside VMX operation all but VMXON raise #UD before an operand is touched.
 * Not modelled: VMLAUNCH and VMRESUME here; the run stops before them and the machine performs the VM entry.
 */
import type { Instruction } from '../../../cpu/decode.js';
import { NEXT, UNDEFINED_OPCODE, type Failure, type Outcome } from '../outcome.js';
import {
  VMX_INSTRUCTIONS,
  type Model,
  type ModelTable,
  type RootCpu,
  type VmxInstructionName,
  type VmxOperands,
} from '../root-cpu.js';
import { openOperand, operandAt, operandOf, readOperand, writeOperand } from './operands.js';

export const VMX_MODELS: ModelTable = Object.fromEntries(
  VMX_INSTRUCTIONS.map((name): [string, Model] => [
    name,
    (cpu, instruction) => execute(cpu, instruction, name),
  ]),
);

function execute(cpu: RootCpu, instruction: Instruction, name: VmxInstructionName): Outcome {
  if (cpu.vmx.mode === 'off' && name !== 'VMXON') return UNDEFINED_OPCODE;
  const operands = operandsOf(cpu, instruction, name);
  if ('kind' in operands) return operands;
  const result = cpu.ports.vmx.execute(cpu, name, operands);
  if (result.kind !== 'done') return result;
  if (result.value === null) return NEXT;
  return writeOperand(cpu, instruction, operandAt(instruction, 0), 8, result.value) ?? NEXT;
}

function operandsOf(
  cpu: RootCpu,
  instruction: Instruction,
  name: VmxInstructionName,
): VmxOperands | Failure {
  switch (name) {
    case 'VMREAD':
      return values(cpu, instruction, [1]);
    case 'VMWRITE':
      return values(cpu, instruction, [0, 1]);
    case 'VMXON':
    case 'VMCLEAR':
    case 'VMPTRLD':
      return values(cpu, instruction, [0]);
    case 'INVEPT':
    case 'INVVPID':
      return typeAndDescriptor(cpu, instruction);
    case 'VMPTRST':
    case 'VMXOFF':
    case 'VMCALL':
    case 'VMFUNC':
      return [];
  }
}

function values(
  cpu: RootCpu,
  instruction: Instruction,
  positions: readonly number[],
): VmxOperands | Failure {
  const found: bigint[] = [];
  for (const position of positions) {
    const value = readOperand(cpu, instruction, operandAt(instruction, position), 8);
    if (typeof value !== 'bigint') return value;
    found.push(value);
  }
  return found;
}

function typeAndDescriptor(cpu: RootCpu, instruction: Instruction): VmxOperands | Failure {
  const type = cpu.registers.values[operandOf(instruction, 'register').register]!;
  const address = openOperand(cpu, instruction, operandOf(instruction, 'memory'), 16, 'read');
  if (typeof address !== 'bigint') return address;
  return [type, cpu.memory.readU64(address), cpu.memory.readU64(address + 8n)];
}
