/**
 * IN and OUT through the machine's port bus.
 *
 * Source: SDM, "IN—Input from Port", "OUT—Output to Port".
 * Invariant: a port that nothing models stops the run; nothing reads as all ones by default.
 * Not modelled: INS and OUTS, which have no model and stop; the I/O permission bitmap does not apply at CPL 0.
 */
import { hex, low32, u64 } from '../../../../abi/uint.js';
import type { Instruction, Operand } from '../../../cpu/decode.js';
import { REG } from '../../../cpu/registers.js';
import { NEXT, unmodelled } from '../outcome.js';
import type { ModelTable, RootCpu } from '../root-cpu.js';
import { operandAt, read32, readRegister, writeRegister } from './operands.js';

export const PORT_IO_MODELS: ModelTable = {
  IN: (cpu, instruction) => {
    const port = portOf(cpu, operandAt(instruction, 1));
    const sizeBytes = accumulatorBytes(operandAt(instruction, 0));
    const value = cpu.ports.portIo.read(port, sizeBytes);
    if (value === undefined) return stop(cpu, instruction, port);
    writeRegister(cpu.registers, REG.RAX, sizeBytes, u64(value));
    return NEXT;
  },
  OUT: (cpu, instruction) => {
    const port = portOf(cpu, operandAt(instruction, 0));
    const sizeBytes = accumulatorBytes(operandAt(instruction, 1));
    const value = low32(readRegister(cpu.registers, REG.RAX, sizeBytes));
    return cpu.ports.portIo.write(port, value, sizeBytes) ? NEXT : stop(cpu, instruction, port);
  },
};

function portOf({ registers }: RootCpu, operand: Operand): number {
  return operand.kind === 'immediate' ? low32(operand.value) : read32(registers, REG.RDX) & 0xffff;
}

function accumulatorBytes(operand: Operand): number {
  return operand.kind === 'register' ? operand.sizeBytes : 1;
}

function stop({ registers }: RootCpu, { name }: Instruction, port: number) {
  return unmodelled(name, registers.values[REG.RIP]!, `port ${hex(port)}`);
}
