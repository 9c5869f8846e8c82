/**
 * The instructions of control-flow enforcement, as far as they are without effect while shadow stacks are off.
 *
 * Source: SDM, "RDSSP", "INCSSP", "SAVEPREVSSP", "RSTORSSP", "SETSSBSY", "CLRSSBSY", "WRSS".
 * Invariant: with shadow stacks off RDSSP does nothing and the others raise #UD.
 * Not modelled: shadow stacks; an instruction that needs one stops the run, RDSSP apart, which reads SSP.
 */
import { CET, MSR } from '../../../../abi/msrs.js';
import type { Instruction } from '../../../cpu/decode.js';
import { REG } from '../../../cpu/registers.js';
import { NEXT, UNDEFINED_OPCODE, unmodelled, type Outcome } from '../outcome.js';
import type { ModelTable, RootCpu } from '../root-cpu.js';
import { operandOf, writeRegister } from './operands.js';

const CR4_CET = 1 << 23;

// prettier-ignore
const NEED_SHADOW_STACK = [
  'INCSSPD', 'INCSSPQ', 'SAVEPREVSSP', 'RSTORSSP', 'SETSSBSY', 'CLRSSBSY', 'WRSSD', 'WRSSQ', 'WRUSSD', 'WRUSSQ',
];

export const SHADOW_STACK_MODELS: ModelTable = {
  ...Object.fromEntries(NEED_SHADOW_STACK.map((name) => [name, needShadowStack])),
  RDSSPD: readPointer,
  RDSSPQ: readPointer,
};

/** Whether supervisor shadow stacks are on. */
export function isShadowStackOn({ registers, msrs }: RootCpu): boolean {
  if ((registers.words[2 * REG.CR4]! & CR4_CET) === 0) return false;
  return ((msrs.file.read(MSR.IA32_S_CET) ?? 0n) & CET.SH_STK_EN) !== 0n;
}

function needShadowStack(cpu: RootCpu, instruction: Instruction): Outcome {
  if (!isShadowStackOn(cpu)) return UNDEFINED_OPCODE;
  return unmodelled(instruction.name, cpu.registers.values[REG.RIP]!, 'shadow stacks');
}

function readPointer(cpu: RootCpu, instruction: Instruction): Outcome {
  if (!isShadowStackOn(cpu)) return NEXT;
  const { register, sizeBytes } = operandOf(instruction, 'register');
  writeRegister(cpu.registers, register, sizeBytes, cpu.registers.values[REG.SSP]!);
  return NEXT;
}
