/**
 * Instructions that change RFLAGS outside arithmetic: CLI, STI, POPF, STAC, CLAC.
 *
 * Source: SDM, "CLI", "STI", "POPF/POPFD/POPFQ", "STAC", "CLAC"; "Masking Maskable Hardware Interrupts".
 * Invariant: STI begins a shadow only when IF was 0.
 * Not modelled: single stepping by RFLAGS.TF, and SMAP itself: user pages do not exist in root operation.
 */
import { u64 } from '../../../../abi/uint.js';
import { REG, RFLAGS } from '../../../cpu/registers.js';
import { NEXT, unmodelled, type Outcome } from '../outcome.js';
import type { ModelTable, RootCpu } from '../root-cpu.js';
import { openStack } from './operands.js';

const AC = 0x4_0000n;
/** CF PF AF ZF SF TF IF DF OF IOPL NT AC ID: what POPF and IRET load at CPL 0. */
export const LOADABLE_RFLAGS = 0x24_7fd5n;

export const FLAG_MODELS: ModelTable = {
  CLI: (cpu) => setFlags(cpu, RFLAGS.IF, 0n),
  STI: (cpu) => {
    const wasClear = (cpu.registers.values[REG.RFLAGS]! & RFLAGS.IF) === 0n;
    setFlags(cpu, 0n, RFLAGS.IF);
    cpu.blocking.sti = wasClear;
    return NEXT;
  },
  STAC: (cpu) => setFlags(cpu, 0n, AC),
  CLAC: (cpu) => setFlags(cpu, AC, 0n),
  POPF: popFlags,
  POPFQ: popFlags,
};

/** Whether RFLAGS that are about to be loaded ask for single stepping. */
export function asksForSingleStep(rflags: bigint): boolean {
  return (rflags & RFLAGS.TF) !== 0n;
}

function popFlags(cpu: RootCpu): Outcome {
  const stack = openStack(cpu, 8);
  if (typeof stack !== 'bigint') return stack;
  const values = cpu.registers.values;
  const popped = cpu.memory.readU64(stack);
  if (asksForSingleStep(popped)) return unmodelled('POPFQ', values[REG.RIP]!, 'RFLAGS.TF set');
  values[REG.RFLAGS] =
    (values[REG.RFLAGS]! & ~(LOADABLE_RFLAGS | RFLAGS.RF)) | (popped & LOADABLE_RFLAGS);
  values[REG.RSP] = u64(stack + 8n);
  return NEXT;
}

function setFlags(cpu: RootCpu, clear: bigint, set: bigint): Outcome {
  const values = cpu.registers.values;
  values[REG.RFLAGS] = (values[REG.RFLAGS]! & ~clear) | set;
  return NEXT;
}
