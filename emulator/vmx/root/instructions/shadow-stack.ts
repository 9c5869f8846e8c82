/**
 * The instructions that read, move and write supervisor shadow stacks.
 *
 * Source: SDM, "RDSSPD/RDSSPQ", "INCSSPD/INCSSPQ", "SAVEPREVSSP", "RSTORSSP", "SETSSBSY", "CLRSSBSY",
 * "WRSSD/WRSSQ", "WRUSSD/WRUSSQ".
 * Invariant: with shadow stacks off RDSSP does nothing and the others raise #UD; WRUSS asks for CR4.CET alone.
 * Not modelled: user shadow stacks: root operation has no user pages, so that WRUSS ends in #PF.
 */
import { CET, MSR } from '../../../../abi/msrs.js';
import { u64 } from '../../../../abi/uint.js';
import type { Instruction } from '../../../cpu/decode.js';
import { REG, RFLAGS, RFLAGS_ARITHMETIC } from '../../../cpu/registers.js';
import { isCetOn, isShadowStackOn, supervisorCet } from '../control-flow.js';
import {
  GENERAL_PROTECTION,
  NEXT,
  UNDEFINED_OPCODE,
  pageFault,
  type Failure,
  type Outcome,
} from '../outcome.js';
import type { Model, ModelTable, RootCpu } from '../root-cpu.js';
import { TOKEN_BUSY, controlProtection, exchangeToken } from '../shadow-stack.js';
import { linearAddress, operandOf, readRegister, writeMemory, writeRegister } from './operands.js';

/** Bit 0 of a restore token: the stack belongs to 64-bit mode; bit 1 is that of a previous-SSP token. */
const TOKEN_64_BIT = 1n;
const TOKEN_PREVIOUS = 2n;
const PAGE_FAULT_USER = 4;
const PAGE_FAULT_OF_WRUSS = 0x47;

export const SHADOW_STACK_MODELS: ModelTable = {
  RDSSPD: readPointer,
  RDSSPQ: readPointer,
  INCSSPD: onShadowStack((cpu, instruction) => increment(cpu, instruction, 4)),
  INCSSPQ: onShadowStack((cpu, instruction) => increment(cpu, instruction, 8)),
  SAVEPREVSSP: onShadowStack(savePrevious),
  RSTORSSP: onShadowStack(restore),
  SETSSBSY: onShadowStack(setBusy),
  CLRSSBSY: onShadowStack(clearBusy),
  WRSSD: (cpu, instruction) => write(cpu, instruction, 4),
  WRSSQ: (cpu, instruction) => write(cpu, instruction, 8),
  WRUSSD: (cpu, instruction) => writeUser(cpu, instruction, 4),
  WRUSSQ: (cpu, instruction) => writeUser(cpu, instruction, 8),
};

function onShadowStack(model: Model): Model {
  return (cpu, instruction) => (isShadowStackOn(cpu) ? model(cpu, instruction) : UNDEFINED_OPCODE);
}

function readPointer(cpu: RootCpu, instruction: Instruction): Outcome {
  if (!isShadowStackOn(cpu)) return NEXT;
  const { register, sizeBytes } = operandOf(instruction, 'register');
  writeRegister(cpu.registers, register, sizeBytes, cpu.registers.values[REG.SSP]!);
  return NEXT;
}

/** Bits 7:0 of the operand count; the first and the last element that are popped must be there. */
function increment(cpu: RootCpu, instruction: Instruction, elementBytes: 4 | 8): Outcome {
  const { values } = cpu.registers;
  const count = values[operandOf(instruction, 'register').register]! & 0xffn;
  const ssp = values[REG.SSP]!;
  const size = u64(elementBytes);
  const last = u64(ssp + (count === 0n ? 0n : count - 1n) * size);
  const failure =
    cpu.linear.openShadowStack(ssp, elementBytes, 'read') ??
    cpu.linear.openShadowStack(last, elementBytes, 'read');
  if (failure !== null) return failure;
  values[REG.SSP] = u64(ssp + count * size);
  return NEXT;
}

/** Pops the previous-SSP token that RSTORSSP has left and makes a restore token of it on the stack that was left. */
function savePrevious(cpu: RootCpu): Outcome {
  const { linear, registers } = cpu;
  const { values } = registers;
  const ssp = values[REG.SSP]!;
  if ((ssp & 7n) !== 0n) return GENERAL_PROTECTION;
  const failure = linear.openShadowStack(ssp, 8, 'read');
  if (failure !== null) return failure;
  const token = linear.bytes.readU64(ssp);
  const hasHole = (values[REG.RFLAGS]! & RFLAGS.CF) !== 0n;
  if (hasHole || (token & TOKEN_PREVIOUS) === 0n) return GENERAL_PROTECTION;
  const old = token & ~3n;
  const place = u64((old & ~7n) - 8n);
  const refused =
    linear.openShadowStack(u64(old - 4n), 4, 'write') ?? linear.openShadowStack(place, 8, 'write');
  if (refused !== null) return refused;
  linear.bytes.writeU32(u64(old - 4n), 0);
  linear.bytes.writeU64(place, old | TOKEN_64_BIT);
  values[REG.SSP] = u64(ssp + 8n);
  return NEXT;
}

/** Goes to the shadow stack whose restore token is at the operand, and leaves a previous-SSP token there. */
function restore(cpu: RootCpu, instruction: Instruction): Outcome {
  const { linear, registers } = cpu;
  const { values } = registers;
  const address = linearAddress(cpu, instruction, operandOf(instruction, 'memory'));
  if ((address & 7n) !== 0n) return GENERAL_PROTECTION;
  const failure = linear.openShadowStack(address, 8, 'write');
  if (failure !== null) return failure;
  const token = linear.bytes.readU64(address);
  const isRestoreToken = (token & 3n) === TOKEN_64_BIT;
  const top = token & ~TOKEN_64_BIT;
  if (!isRestoreToken || u64((top - 8n) & ~7n) !== address) return controlProtection('RSTORSSP');
  linear.bytes.writeU64(address, values[REG.SSP]! | TOKEN_PREVIOUS | TOKEN_64_BIT);
  values[REG.SSP] = address;
  setFlags(cpu, (token & 4n) !== 0n);
  return NEXT;
}

function setBusy(cpu: RootCpu): Outcome {
  const token = cpu.msrs.file.read(MSR.IA32_PL0_SSP) ?? 0n;
  if ((token & 7n) !== 0n) return GENERAL_PROTECTION;
  const isTaken = exchangeToken(cpu, token, token, token | TOKEN_BUSY);
  if (isTaken === false) return controlProtection('SETSSBSY');
  if (isTaken !== true) return isTaken;
  cpu.registers.values[REG.SSP] = token;
  return NEXT;
}

/** Frees the token at the operand; CF tells that it was no busy token. SSP becomes 0 either way. */
function clearBusy(cpu: RootCpu, instruction: Instruction): Outcome {
  const address = linearAddress(cpu, instruction, operandOf(instruction, 'memory'));
  if ((address & 7n) !== 0n) return GENERAL_PROTECTION;
  const isFreed = exchangeToken(cpu, address, address | TOKEN_BUSY, address);
  if (typeof isFreed !== 'boolean') return isFreed;
  setFlags(cpu, !isFreed);
  cpu.registers.values[REG.SSP] = 0n;
  return NEXT;
}

function write(cpu: RootCpu, instruction: Instruction, sizeBytes: 4 | 8): Outcome {
  const wanted = CET.SH_STK_EN | CET.WR_SHSTK_EN;
  if ((supervisorCet(cpu) & wanted) !== wanted) return UNDEFINED_OPCODE;
  const address = alignedOperand(cpu, instruction, sizeBytes);
  if (typeof address !== 'bigint') return address;
  const failure = cpu.linear.openShadowStack(address, sizeBytes, 'write');
  if (failure !== null) return failure;
  const { register } = operandOf(instruction, 'register');
  writeMemory(cpu, address, sizeBytes, readRegister(cpu.registers, register, sizeBytes));
  return NEXT;
}

function writeUser(cpu: RootCpu, instruction: Instruction, sizeBytes: 4 | 8): Outcome {
  if (!isCetOn(cpu)) return UNDEFINED_OPCODE;
  const address = alignedOperand(cpu, instruction, sizeBytes);
  if (typeof address !== 'bigint') return address;
  const refused = cpu.linear.explainShadowStack(address, sizeBytes, 'write');
  if (refused === null) return pageFault(PAGE_FAULT_OF_WRUSS, address);
  return refused.kind === 'fault' && refused.address !== null
    ? pageFault((refused.errorCode ?? 0) | PAGE_FAULT_USER, refused.address)
    : refused;
}

function alignedOperand(
  cpu: RootCpu,
  instruction: Instruction,
  sizeBytes: 4 | 8,
): bigint | Failure {
  const address = linearAddress(cpu, instruction, operandOf(instruction, 'memory'));
  return (address & u64(sizeBytes - 1)) === 0n ? address : GENERAL_PROTECTION;
}

function setFlags(cpu: RootCpu, carry: boolean): void {
  const { values } = cpu.registers;
  values[REG.RFLAGS] = (values[REG.RFLAGS]! & ~RFLAGS_ARITHMETIC) | (carry ? RFLAGS.CF : 0n);
}
