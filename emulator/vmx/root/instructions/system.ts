/**
 * Instructions whose effect lies outside the model, or that only wait: HLT, SERIALIZE, the fences of the cache.
 *
 * Source: SDM, "HLT", "SERIALIZE", "CLFLUSH", "WBINVD", "UD—Undefined Instruction", "LOCK".
 * Invariant: HLT leaves RIP past itself; an event that wakes the pCPU returns there.
 * Not modelled: caches; the CLFLUSH family only checks its operand.
 */
import type { Instruction } from '../../../cpu/decode.js';
import { LOCKED_NAME } from '../../../cpu/system-instructions.js';
import { NEXT, UNDEFINED_OPCODE, type Outcome } from '../outcome.js';
import type { ModelTable, RootCpu } from '../root-cpu.js';
import { openOperand, operandOf } from './operands.js';

export const SYSTEM_MODELS: ModelTable = {
  HLT: (cpu) => {
    cpu.activity = 'halted';
    return NEXT;
  },
  PAUSE: () => NEXT,
  SERIALIZE: () => NEXT,
  WBINVD: () => NEXT,
  WBNOINVD: () => NEXT,
  ENDBR64: () => NEXT,
  CLFLUSH: flushLine,
  CLFLUSHOPT: flushLine,
  CLWB: flushLine,
  UD0: () => UNDEFINED_OPCODE,
  UD1: () => UNDEFINED_OPCODE,
  UD2: () => UNDEFINED_OPCODE,
  [LOCKED_NAME]: () => UNDEFINED_OPCODE,
};

function flushLine(cpu: RootCpu, instruction: Instruction): Outcome {
  const address = openOperand(cpu, instruction, operandOf(instruction, 'memory'), 1, 'read');
  return typeof address === 'bigint' ? NEXT : address;
}
