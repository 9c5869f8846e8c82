/**
 * Operands of a decoded instruction: registers by number and size, memory by effective address.
 *
 * Source: SDM, "Operand Addressing", "General-Purpose Registers in 64-Bit Mode".
 * Invariant: a 32-bit write clears the high half of its register, a 16-bit or 8-bit one keeps the rest.
 * Not modelled: 32-bit address size, AH to BH.
 */
import { HarnessBug } from '../../../../abi/errors.js';
import { low32, u64 } from '../../../../abi/uint.js';
import type { Instruction, Operand } from '../../../cpu/decode.js';
import { REG, type RegisterFile } from '../../../cpu/registers.js';
import type { Failure } from '../outcome.js';
import type { RootCpu } from '../root-cpu.js';

/** A memory operand. */
export type MemoryOperand = Extract<Operand, { kind: 'memory' }>;
/** A general-register operand. */
export type RegisterOperand = Extract<Operand, { kind: 'register' }>;

const WIDTH_MASK: Readonly<Record<number, bigint>> = {
  1: 0xffn,
  2: 0xffffn,
  4: 0xffff_ffffn,
  8: 0xffff_ffff_ffff_ffffn,
};

/** The operand at a position; the decoder and the model must agree on how many there are. */
export function operandAt(instruction: Instruction, position: number): Operand {
  const operand = instruction.operands[position];
  if (operand === undefined) {
    throw new HarnessBug(`${instruction.name}: no operand ${position}`);
  }
  return operand;
}

/** The one operand of a kind, wherever it stands. */
export function operandOf<Kind extends Operand['kind']>(
  instruction: Instruction,
  kind: Kind,
): Extract<Operand, { kind: Kind }> {
  const operand = instruction.operands.find((each) => each.kind === kind);
  if (operand === undefined) throw new HarnessBug(`${instruction.name}: no ${kind} operand`);
  return operand as Extract<Operand, { kind: Kind }>;
}

/** The low `sizeBytes` of a general register. */
export function readRegister(registers: RegisterFile, register: number, sizeBytes: number): bigint {
  return registers.values[register]! & WIDTH_MASK[sizeBytes]!;
}

/** Writes the low `sizeBytes` of a general register as the architecture does. */
export function writeRegister(
  registers: RegisterFile,
  register: number,
  sizeBytes: number,
  value: bigint,
): void {
  const mask = WIDTH_MASK[sizeBytes]!;
  const kept = sizeBytes < 4 ? registers.values[register]! & ~mask : 0n;
  registers.values[register] = kept | (value & mask);
}

/** EAX, EBX, ECX or EDX as an instruction without operands writes it. */
export function write32(registers: RegisterFile, register: number, value: number): void {
  registers.values[register] = u64(value >>> 0);
}

/** The low half of a register as a number. */
export function read32(registers: RegisterFile, register: number): number {
  return registers.words[register * 2]!;
}

/** The linear address of a memory operand. */
export function linearAddress(
  { registers }: RootCpu,
  instruction: Instruction,
  operand: MemoryOperand,
): bigint {
  const { values } = registers;
  let address = operand.displacement;
  if (operand.base === 'rip') address += values[REG.RIP]! + u64(instruction.length);
  else if (operand.base !== null) address += values[operand.base]!;
  if (operand.index !== null) address += values[operand.index]! * u64(operand.scale);
  if (operand.segment === 'fs') address += values[REG.FS_BASE]!;
  if (operand.segment === 'gs') address += values[REG.GS_BASE]!;
  return u64(address);
}

/** Whether a non-canonical address of this operand is #SS and not #GP. */
function isStackOperand({ base, segment }: MemoryOperand): boolean {
  return segment === null && (base === REG.RSP || base === REG.RBP);
}

/** Asks for a memory operand and gives its address. */
export function openOperand(
  cpu: RootCpu,
  instruction: Instruction,
  operand: MemoryOperand,
  sizeBytes: number,
  access: 'read' | 'write',
): bigint | Failure {
  const address = linearAddress(cpu, instruction, operand);
  return cpu.linear.open(address, sizeBytes, access, isStackOperand(operand)) ?? address;
}

/** The value of a register or memory operand of up to 8 bytes. */
export function readOperand(
  cpu: RootCpu,
  instruction: Instruction,
  operand: Operand,
  sizeBytes: number,
): bigint | Failure {
  if (operand.kind === 'register') return readRegister(cpu.registers, operand.register, sizeBytes);
  if (operand.kind === 'immediate') return operand.value & WIDTH_MASK[sizeBytes]!;
  if (operand.kind !== 'memory') throw new HarnessBug(`${instruction.name}: ${operand.kind} read`);
  const address = openOperand(cpu, instruction, operand, sizeBytes, 'read');
  return typeof address === 'bigint' ? readMemory(cpu, address, sizeBytes) : address;
}

/** Stores up to 8 bytes into a register (of its own size) or memory operand. */
export function writeOperand(
  cpu: RootCpu,
  instruction: Instruction,
  operand: Operand,
  sizeBytes: number,
  value: bigint,
): Failure | null {
  if (operand.kind === 'register') {
    writeRegister(cpu.registers, operand.register, operand.sizeBytes, value);
    return null;
  }
  if (operand.kind !== 'memory') throw new HarnessBug(`${instruction.name}: ${operand.kind} write`);
  const address = openOperand(cpu, instruction, operand, sizeBytes, 'write');
  if (typeof address !== 'bigint') return address;
  writeMemory(cpu, address, sizeBytes, value);
  return null;
}

/** Reads opened memory. */
export function readMemory({ memory }: RootCpu, address: bigint, sizeBytes: number): bigint {
  switch (sizeBytes) {
    case 1:
      return u64(memory.readU8(address));
    case 2:
      return u64(memory.readU16(address));
    case 4:
      return u64(memory.readU32(address));
    default:
      return memory.readU64(address);
  }
}

/** The far pointer that is the memory operand: an offset of so many bytes, and the selector behind it. */
export function readFarPointer(
  cpu: RootCpu,
  instruction: Instruction,
  offsetBytes: number,
): { readonly offset: bigint; readonly selector: number } | Failure {
  const operand = operandOf(instruction, 'memory');
  const pointer = openOperand(cpu, instruction, operand, offsetBytes + 2, 'read');
  if (typeof pointer !== 'bigint') return pointer;
  return {
    offset: readMemory(cpu, pointer, offsetBytes),
    selector: low32(readMemory(cpu, pointer + u64(offsetBytes), 2)),
  };
}

/** Writes opened memory. */
export function writeMemory(
  { memory }: RootCpu,
  address: bigint,
  sizeBytes: number,
  value: bigint,
): void {
  if (sizeBytes === 1) memory.writeU8(address, low32(value & 0xffn));
  else if (sizeBytes === 2) memory.writeU16(address, low32(value & 0xffffn));
  else if (sizeBytes === 4) memory.writeU32(address, low32(value));
  else memory.writeU64(address, value);
}

/** Pushes a quadword. */
export function push64(cpu: RootCpu, value: bigint): Failure | null {
  const rsp = u64(cpu.registers.values[REG.RSP]! - 8n);
  const failure = cpu.linear.open(rsp, 8, 'write', true);
  if (failure !== null) return failure;
  cpu.memory.writeU64(rsp, value);
  cpu.registers.values[REG.RSP] = rsp;
  return null;
}

/** Asks for `sizeBytes` at the top of the stack and gives their address; the caller moves RSP. */
export function openStack(cpu: RootCpu, sizeBytes: number): bigint | Failure {
  const rsp = cpu.registers.values[REG.RSP]!;
  return cpu.linear.open(rsp, sizeBytes, 'read', true) ?? rsp;
}
