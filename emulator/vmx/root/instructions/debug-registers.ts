/**
 * MOV to and from debug registers.
 *
 * Source: SDM, "MOV—Move to/from Debug Registers", "Debug Registers".
 * Invariant: the reserved bits of DR6 and DR7 read as the architecture fixes them.
 * Not modelled: breakpoints themselves; a store that enables one in DR7 stops the run.
 */
import { VECTOR } from '../../../../abi/interruption.js';
import { REG } from '../../../cpu/registers.js';
import { GENERAL_PROTECTION, NEXT, UNDEFINED_OPCODE, fault, unmodelled } from '../outcome.js';
import type { ModelTable, RootCpu } from '../root-cpu.js';
import { operandOf } from './operands.js';

const CR4_DE = 8n;
const DR6_FIXED = 0xfffe_07f0n;
const DR6_DEFINED = 0x1_e80fn;
const DR6_BD = 1n << 13n;
const DR7_FIXED = 0x400n;
const DR7_GD = 1n << 13n;
const DR7_RESERVED = 0xd000n;
const DR7_ENABLED = 0xffn;

const SLOT: Readonly<Record<number, number>> = {
  0: REG.DR0,
  1: REG.DR1,
  2: REG.DR2,
  3: REG.DR3,
  6: REG.DR6,
  7: REG.DR7,
};

export const DEBUG_REGISTER_MODELS: ModelTable = {
  MOV_TO_DR: (cpu, instruction) => {
    const { values } = cpu.registers;
    const slot = slotOf(cpu, operandOf(instruction, 'debug').register);
    if (slot === undefined) return UNDEFINED_OPCODE;
    if (isGuarded(cpu)) return raiseGeneralDetect(cpu);
    const value = values[operandOf(instruction, 'register').register]!;
    if (slot === REG.DR6 || slot === REG.DR7) {
      if (value >> 32n !== 0n) return GENERAL_PROTECTION;
      if (slot === REG.DR6) {
        values[slot] = (value & DR6_DEFINED) | DR6_FIXED;
        return NEXT;
      }
      if ((value & DR7_ENABLED) !== 0n) {
        return unmodelled('MOV_TO_DR', values[REG.RIP]!, 'a breakpoint is enabled in DR7');
      }
      values[slot] = (value & ~DR7_RESERVED) | DR7_FIXED;
      return NEXT;
    }
    values[slot] = value;
    return NEXT;
  },
  MOV_FROM_DR: (cpu, instruction) => {
    const { values } = cpu.registers;
    const slot = slotOf(cpu, operandOf(instruction, 'debug').register);
    if (slot === undefined) return UNDEFINED_OPCODE;
    if (isGuarded(cpu)) return raiseGeneralDetect(cpu);
    values[operandOf(instruction, 'register').register] = values[slot]!;
    return NEXT;
  },
};

/** DR4 and DR5 alias DR6 and DR7 unless CR4.DE makes them undefined. */
function slotOf({ registers }: RootCpu, register: number): number | undefined {
  const isAlias = register === 4 || register === 5;
  if (!isAlias) return SLOT[register];
  return (registers.values[REG.CR4]! & CR4_DE) === 0n ? SLOT[register + 2] : undefined;
}

function isGuarded({ registers }: RootCpu): boolean {
  return (registers.values[REG.DR7]! & DR7_GD) !== 0n;
}

function raiseGeneralDetect({ registers }: RootCpu): ReturnType<typeof fault> {
  registers.values[REG.DR6] = registers.values[REG.DR6]! | DR6_BD;
  registers.values[REG.DR7] = registers.values[REG.DR7]! & ~DR7_GD;
  return fault(VECTOR.DB);
}
