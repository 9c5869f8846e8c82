/**
 * CMPXCHG of 32 bits, CMPXCHG8B and CMPXCHG16B: the engine clears RAX's upper half where the first one finds its value,
 * and computes flags that the other two keep.
 *
 * Source: SDM, "CMPXCHG", "CMPXCHG8B/CMPXCHG16B".
 * Invariant: the destination in memory is opened for writing before it is read, for it is written in both cases; what is
 * not written keeps its upper half. The other sizes of CMPXCHG are the engine's, which has them right.
 */
import { HarnessBug } from '../../../../abi/errors.js';
import { low32, u64 } from '../../../../abi/uint.js';
import type { Instruction } from '../../../cpu/decode.js';
import { REG, RFLAGS, RFLAGS_ARITHMETIC } from '../../../cpu/registers.js';
import { GENERAL_PROTECTION, NEXT, type Outcome } from '../outcome.js';
import type { ModelTable, RootCpu } from '../root-cpu.js';
import {
  linearAddress,
  openOperand,
  operandAt,
  operandOf,
  read32,
  write32,
  writeRegister,
} from './operands.js';

const { CF, PF, AF, ZF, SF, OF } = RFLAGS;

export const COMPARE_EXCHANGE_MODELS: ModelTable = {
  CMPXCHG: compareExchange,
  CMPXCHG8B: (cpu, instruction) => compareExchangePair(cpu, instruction, 4),
  CMPXCHG16B: (cpu, instruction) => compareExchangePair(cpu, instruction, 8),
};

function compareExchange(cpu: RootCpu, instruction: Instruction): Outcome {
  const { registers, memory } = cpu;
  const destination = operandAt(instruction, 0);
  const source = read32(registers, registerAt(instruction, 1));
  const accumulator = read32(registers, REG.RAX);
  if (destination.kind === 'register') {
    const found = read32(registers, destination.register);
    if (found === accumulator) write32(registers, destination.register, source);
    else write32(registers, REG.RAX, found);
    setCompareFlags(cpu, accumulator, found);
    return NEXT;
  }
  const address = openOperand(cpu, instruction, operandOf(instruction, 'memory'), 4, 'write');
  if (typeof address !== 'bigint') return address;
  const found = memory.readU32(address);
  if (found === accumulator) memory.writeU32(address, source);
  else write32(registers, REG.RAX, found);
  setCompareFlags(cpu, accumulator, found);
  return NEXT;
}

function registerAt(instruction: Instruction, position: number): number {
  const operand = operandAt(instruction, position);
  if (operand.kind !== 'register') {
    throw new HarnessBug(`${instruction.name}: operand ${position} is no register`);
  }
  return operand.register;
}

/** The flags of CMP with 32-bit operands. */
function setCompareFlags({ registers }: RootCpu, left: number, right: number): void {
  const difference = (left - right) | 0;
  let flags = 0n;
  if (left < right) flags |= CF;
  if (hasEvenParity(difference & 0xff)) flags |= PF;
  if (((left ^ right ^ difference) & 0x10) !== 0) flags |= AF;
  if (difference === 0) flags |= ZF;
  if (difference < 0) flags |= SF;
  if (((left ^ right) & (left ^ difference)) < 0) flags |= OF;
  const { values } = registers;
  values[REG.RFLAGS] = (values[REG.RFLAGS]! & ~RFLAGS_ARITHMETIC) | flags;
}

function hasEvenParity(byte: number): boolean {
  let bits = byte ^ (byte >> 4);
  bits ^= bits >> 2;
  bits ^= bits >> 1;
  return (bits & 1) === 0;
}

function compareExchangePair(cpu: RootCpu, instruction: Instruction, half: 4 | 8): Outcome {
  const operand = operandOf(instruction, 'memory');
  if (half === 8 && (low32(linearAddress(cpu, instruction, operand)) & 15) !== 0) {
    return GENERAL_PROTECTION;
  }
  const address = openOperand(cpu, instruction, operand, 2 * half, 'write');
  if (typeof address !== 'bigint') return address;
  const { registers, memory } = cpu;
  const { values } = registers;
  const mask = half === 4 ? 0xffff_ffffn : u64(-1n);
  const low = memory.readU64(address);
  const found =
    half === 4
      ? ([low & mask, low >> 32n] as const)
      : ([low, memory.readU64(address + 8n)] as const);
  const isEqual = (values[REG.RAX]! & mask) === found[0] && (values[REG.RDX]! & mask) === found[1];
  if (isEqual) {
    const [first, second] = [values[REG.RBX]! & mask, values[REG.RCX]! & mask];
    memory.writeU64(address, half === 4 ? first | (second << 32n) : first);
    if (half === 8) memory.writeU64(address + 8n, second);
  } else {
    writeRegister(registers, REG.RAX, half, found[0]);
    writeRegister(registers, REG.RDX, half, found[1]);
  }
  values[REG.RFLAGS] = (values[REG.RFLAGS]! & ~ZF) | (isEqual ? ZF : 0n);
  return NEXT;
}
