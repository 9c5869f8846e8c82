/**
 * LGDT, LIDT, SGDT, SIDT, LTR, STR, LLDT and SLDT.
 *
 * Source: SDM, "LGDT/LIDT", "SGDT", "SIDT", "LTR", "STR", "LLDT", "SLDT".
 * Invariant: a failing LTR leaves TR and the busy bit as they were.
 * Not modelled: a non-null LDT, which stops the run.
 */
import { VECTOR } from '../../../../abi/interruption.js';
import { isCanonical, low32, u64 } from '../../../../abi/uint.js';
import type { Instruction } from '../../../cpu/decode.js';
import { REG } from '../../../cpu/registers.js';
import { isNullSelector, lookUp, markBusy } from '../descriptors.js';
import {
  GENERAL_PROTECTION,
  NEXT,
  fault,
  selectorError,
  unmodelled,
  type Outcome,
} from '../outcome.js';
import type { ModelTable, RootCpu } from '../root-cpu.js';
import { openOperand, operandAt, operandOf, readOperand, writeOperand } from './operands.js';

const PSEUDO_DESCRIPTOR_BYTES = 10;
const AVAILABLE_TSS = 9;

export const DESCRIPTOR_TABLE_MODELS: ModelTable = {
  LGDT: (cpu, instruction) => load(cpu, instruction, REG.GDTR_BASE, REG.GDTR_LIMIT),
  LIDT: (cpu, instruction) => load(cpu, instruction, REG.IDTR_BASE, REG.IDTR_LIMIT),
  SGDT: (cpu, instruction) => store(cpu, instruction, REG.GDTR_BASE, REG.GDTR_LIMIT),
  SIDT: (cpu, instruction) => store(cpu, instruction, REG.IDTR_BASE, REG.IDTR_LIMIT),
  STR: (cpu, instruction) => storeSelector(cpu, instruction, REG.TR),
  SLDT: (cpu, instruction) => storeSelector(cpu, instruction, REG.LDTR),
  LTR: loadTaskRegister,
  LLDT: (cpu, instruction) => {
    const selector = readOperand(cpu, instruction, operandAt(instruction, 0), 2);
    if (typeof selector !== 'bigint') return selector;
    const { values } = cpu.registers;
    if (!isNullSelector(low32(selector))) {
      return unmodelled('LLDT', values[REG.RIP]!, 'an LDT that is not null');
    }
    values[REG.LDTR] = selector;
    return NEXT;
  },
};

function load(cpu: RootCpu, instruction: Instruction, base: number, limit: number): Outcome {
  const operand = operandOf(instruction, 'memory');
  const address = openOperand(cpu, instruction, operand, PSEUDO_DESCRIPTOR_BYTES, 'read');
  if (typeof address !== 'bigint') return address;
  const loadedBase = cpu.memory.readU64(address + 2n);
  if (!isCanonical(loadedBase)) return GENERAL_PROTECTION;
  cpu.registers.values[limit] = u64(cpu.memory.readU16(address));
  cpu.registers.values[base] = loadedBase;
  return NEXT;
}

function store(cpu: RootCpu, instruction: Instruction, base: number, limit: number): Outcome {
  const operand = operandOf(instruction, 'memory');
  const address = openOperand(cpu, instruction, operand, PSEUDO_DESCRIPTOR_BYTES, 'write');
  if (typeof address !== 'bigint') return address;
  cpu.memory.writeU16(address, low32(cpu.registers.values[limit]!));
  cpu.memory.writeU64(address + 2n, cpu.registers.values[base]!);
  return NEXT;
}

function storeSelector(cpu: RootCpu, instruction: Instruction, slot: number): Outcome {
  const destination = operandAt(instruction, 0);
  return writeOperand(cpu, instruction, destination, 2, cpu.registers.values[slot]!) ?? NEXT;
}

function loadTaskRegister(cpu: RootCpu, instruction: Instruction): Outcome {
  const operand = readOperand(cpu, instruction, operandAt(instruction, 0), 2);
  if (typeof operand !== 'bigint') return operand;
  const selector = low32(operand);
  if (isNullSelector(selector)) return GENERAL_PROTECTION;
  const { values } = cpu.registers;
  const tss = lookUp(cpu.linear, cpu.registers, selector, 16);
  if (tss.kind === 'none') return fault(VECTOR.GP, selectorError(selector));
  if (tss.kind !== 'descriptor') return tss;
  if (!tss.isSystem || tss.type !== AVAILABLE_TSS) {
    return fault(VECTOR.GP, selectorError(selector));
  }
  if (!tss.isPresent) return fault(VECTOR.NP, selectorError(selector));
  const base = tss.base | (u64(cpu.memory.readU32(tss.address + 8n)) << 32n);
  if (!isCanonical(base)) return fault(VECTOR.GP, selectorError(selector));
  const failure = markBusy(cpu.linear, tss);
  if (failure !== null) return failure;
  values[REG.TR] = operand;
  values[REG.TR_BASE] = base;
  values[REG.TR_LIMIT] = tss.limit;
  return NEXT;
}
