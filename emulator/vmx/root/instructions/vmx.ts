/**
 * The VMX instructions: fetches their operands, delegates, and stores what they return.
 *
 * Source: SDM, "VMX Instruction Reference"; vmx-instructions.ts executes them behind VmxInstructionPort.
 * Invariant: outside VMX operation all but VMXON raise #UD before an operand is touched; one whose store faults leaves
 * RFLAGS as they were.
 * Not modelled: VMLAUNCH and VMRESUME here; the run stops before them and the machine performs the VM entry.
 */
import { HarnessBug } from '../../../../abi/errors.js';
import type { Instruction } from '../../../cpu/decode.js';
import { REG } from '../../../cpu/registers.js';
import type { VmxInstruction } from '../../vmx-instructions.js';
import { NEXT, UNDEFINED_OPCODE, fault, type Failure, type Outcome } from '../outcome.js';
import type { Model, ModelTable, RootCpu } from '../root-cpu.js';
import { openOperand, operandAt, operandOf, readOperand, writeOperand } from './operands.js';

/** Reads the operands of one instruction. */
type Fetch = (cpu: RootCpu, instruction: Instruction) => VmxInstruction | Failure;

const withoutOperand =
  (name: 'VMXOFF' | 'VMCALL' | 'VMPTRST'): Fetch =>
  () => ({ name });

const withPointer =
  (name: 'VMXON' | 'VMPTRLD' | 'VMCLEAR'): Fetch =>
  (cpu, instruction) => {
    const pointer = readOperand(cpu, instruction, operandAt(instruction, 0), 8);
    return typeof pointer === 'bigint' ? { name, pointer } : pointer;
  };

const withDescriptor =
  (name: 'INVEPT' | 'INVVPID'): Fetch =>
  (cpu, instruction) => {
    const type = cpu.registers.values[operandOf(instruction, 'register').register]!;
    const address = openOperand(cpu, instruction, operandOf(instruction, 'memory'), 16, 'read');
    if (typeof address !== 'bigint') return address;
    const descriptor = [cpu.memory.readU64(address), cpu.memory.readU64(address + 8n)] as const;
    return { name, type, descriptor };
  };

const FETCHES: Readonly<Record<string, Fetch>> = {
  VMXOFF: withoutOperand('VMXOFF'),
  VMCALL: withoutOperand('VMCALL'),
  VMPTRST: withoutOperand('VMPTRST'),
  VMXON: withPointer('VMXON'),
  VMPTRLD: withPointer('VMPTRLD'),
  VMCLEAR: withPointer('VMCLEAR'),
  INVEPT: withDescriptor('INVEPT'),
  INVVPID: withDescriptor('INVVPID'),
  VMREAD: (cpu, instruction) => {
    const encoding = readOperand(cpu, instruction, operandAt(instruction, 1), 8);
    return typeof encoding === 'bigint' ? { name: 'VMREAD', encoding } : encoding;
  },
  VMWRITE: (cpu, instruction) => {
    const encoding = readOperand(cpu, instruction, operandAt(instruction, 0), 8);
    if (typeof encoding !== 'bigint') return encoding;
    const value = readOperand(cpu, instruction, operandAt(instruction, 1), 8);
    return typeof value === 'bigint' ? { name: 'VMWRITE', encoding, value } : value;
  },
};

export const VMX_MODELS: ModelTable = {
  ...Object.fromEntries(
    Object.entries(FETCHES).map(([name, fetch]): [string, Model] => [
      name,
      (cpu, instruction) => execute(cpu, instruction, fetch),
    ]),
  ),
  /** VM functions exist in VMX non-root operation only. */
  VMFUNC: () => UNDEFINED_OPCODE,
};

function execute(cpu: RootCpu, instruction: Instruction, fetch: Fetch): Outcome {
  if (cpu.vmx.mode === 'off' && instruction.name !== 'VMXON') return UNDEFINED_OPCODE;
  const fetched = fetch(cpu, instruction);
  if ('kind' in fetched) return fetched;
  const rflags = cpu.registers.values[REG.RFLAGS]!;
  const result = cpu.ports.vmx.execute(cpu, fetched);
  cpu.onVmxInstruction(fetched, result);
  switch (result.kind) {
    case 'succeed': {
      if (result.value === undefined) return NEXT;
      const failure = writeOperand(cpu, instruction, operandAt(instruction, 0), 8, result.value);
      if (failure === null) return NEXT;
      cpu.registers.values[REG.RFLAGS] = rflags;
      return failure;
    }
    case 'vmfail-invalid':
    case 'vmfail-valid':
      return NEXT;
    case 'exception':
      return fault(result.vector, result.errorCode);
    case 'entry':
      throw new HarnessBug(`${instruction.name} entered a guest`);
  }
}
