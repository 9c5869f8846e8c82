/**
 * Control transfers that read descriptors or the IDT: IRETQ, far RET, INT n, INT3, INT1.
 *
 * Source: SDM, "IRET/IRETD/IRETQ", "RET", "INT n/INTO/INT3/INT1", "Handling Multiple NMIs".
 * Invariant: IRETQ ends NMI blocking even when it faults; a return that faults has popped nothing.
 * Not modelled: returns to another privilege level or to compatibility mode, 16-bit forms and IRETD, single
 * stepping by RFLAGS.TF: they stop.
 */
import { VECTOR } from '../../../../abi/interruption.js';
import { isCanonical, low32, u64 } from '../../../../abi/uint.js';
import type { Instruction } from '../../../cpu/decode.js';
import { REG, RFLAGS } from '../../../cpu/registers.js';
import {
  isCode,
  isNullSelector,
  isWritableData,
  lookUp,
  markAccessed,
  rplOf,
} from '../descriptors.js';
import { deliver } from '../idt-delivery.js';
import {
  GENERAL_PROTECTION,
  JUMPED,
  fault,
  selectorError,
  unmodelled,
  type Failure,
  type Outcome,
} from '../outcome.js';
import type { ModelTable, RootCpu } from '../root-cpu.js';
import { checkReturnFrame, popInterrupted } from '../shadow-stack.js';
import { LOADABLE_RFLAGS, asksForSingleStep } from './flags.js';
import { openStack, operandOf } from './operands.js';

const NESTED_TASK = 0x4000n;
const INTERRUPT_FRAME_BYTES = 40;

export const TRANSFER_MODELS: ModelTable = {
  IRETQ: returnFromInterrupt,
  RETFQ: (cpu, instruction) => returnFar(cpu, instruction, 8),
  RETFD: (cpu, instruction) => returnFar(cpu, instruction, 4),
  INT: (cpu, instruction) =>
    interrupt(cpu, instruction, low32(operandOf(instruction, 'immediate').value)),
  INT3: (cpu, instruction) => interrupt(cpu, instruction, VECTOR.BP),
  INT1: (cpu, instruction) => interrupt(cpu, instruction, VECTOR.DB),
};

/** Delivers a software interrupt with RIP past the instruction, or what replaces it with RIP at it. */
function interrupt(cpu: RootCpu, instruction: Instruction, vector: number): Outcome {
  const { values } = cpu.registers;
  const site = values[REG.RIP]!;
  values[REG.RIP] = u64(site + u64(instruction.length));
  const result = deliver(cpu, { vector, kind: 'soft-int', errorCode: null, restart: site });
  switch (result.kind) {
    case 'delivered':
      return JUMPED;
    case 'stop':
      return result;
    case 'triple-fault':
      cpu.activity = 'shutdown';
      return {
        kind: 'stop',
        reason: { kind: 'triple-fault', address: site, vectors: result.vectors },
      };
  }
}

function returnFromInterrupt(cpu: RootCpu): Outcome {
  const { values } = cpu.registers;
  cpu.blocking.nmi = false;
  if ((values[REG.RFLAGS]! & NESTED_TASK) !== 0n) return GENERAL_PROTECTION;
  const frame = openStack(cpu, INTERRUPT_FRAME_BYTES);
  if (typeof frame !== 'bigint') return frame;
  const rip = cpu.memory.readU64(frame);
  const cs = low32(cpu.memory.readU64(frame + 8n)) & 0xffff;
  const rflags = cpu.memory.readU64(frame + 16n);
  const rsp = cpu.memory.readU64(frame + 24n);
  const ss = low32(cpu.memory.readU64(frame + 32n)) & 0xffff;
  const failure =
    checkCodeReturn(cpu, 'IRETQ', cs) ??
    checkStackReturn(cpu, ss) ??
    (isCanonical(rip) ? null : GENERAL_PROTECTION);
  if (failure !== null) return failure;
  const shadow = checkReturnFrame(cpu, cs, rip);
  if (shadow !== null && shadow.kind !== 'frame') return shadow;
  if (asksForSingleStep(rflags)) return unmodelled('IRETQ', values[REG.RIP]!, 'RFLAGS.TF set');
  const refused = shadow === null ? null : popInterrupted(cpu, shadow);
  if (refused !== null) return refused;
  values[REG.RIP] = rip;
  values[REG.CS] = u64(cs);
  // RF would suppress an instruction breakpoint at the target; there are none, so it ends here and not one later.
  values[REG.RFLAGS] = (rflags & LOADABLE_RFLAGS) | RFLAGS.FIXED;
  values[REG.RSP] = rsp;
  values[REG.SS] = u64(ss);
  return JUMPED;
}

function returnFar(cpu: RootCpu, instruction: Instruction, slotBytes: 4 | 8): Outcome {
  const { values } = cpu.registers;
  const stack = openStack(cpu, slotBytes * 2);
  if (typeof stack !== 'bigint') return stack;
  const rip = slotBytes === 8 ? cpu.memory.readU64(stack) : u64(cpu.memory.readU32(stack));
  const cs = cpu.memory.readU16(stack + u64(slotBytes));
  const failure =
    checkCodeReturn(cpu, instruction.name, cs) ?? (isCanonical(rip) ? null : GENERAL_PROTECTION);
  if (failure !== null) return failure;
  const shadow = checkReturnFrame(cpu, cs, rip);
  if (shadow !== null && shadow.kind !== 'frame') return shadow;
  if (shadow !== null) values[REG.SSP] = shadow.previous;
  const release = instruction.operands.find((operand) => operand.kind === 'immediate')?.value ?? 0n;
  values[REG.RIP] = rip;
  values[REG.CS] = u64(cs);
  values[REG.RSP] = u64(stack + u64(slotBytes * 2) + release);
  return JUMPED;
}

/** The CS of a return: 64-bit code at CPL 0. */
function checkCodeReturn(cpu: RootCpu, name: string, selector: number): Failure | null {
  const rip = cpu.registers.values[REG.RIP]!;
  const error = selectorError(selector);
  if (isNullSelector(selector)) return GENERAL_PROTECTION;
  const found = lookUp(cpu.linear, cpu.registers, selector);
  if (found.kind === 'none') return fault(VECTOR.GP, error);
  if (found.kind !== 'descriptor') return found;
  if (rplOf(selector) !== 0) return unmodelled(name, rip, 'return to an outer privilege level');
  if (!isCode(found) || found.dpl !== 0) return fault(VECTOR.GP, error);
  if (!found.isPresent) return fault(VECTOR.NP, error);
  if (!found.isLong) return unmodelled(name, rip, 'return to compatibility mode');
  if (found.isDefault32) return fault(VECTOR.GP, error);
  return markAccessed(cpu.linear, found);
}

/** The SS of an interrupt return: null, or writable data at CPL 0. */
function checkStackReturn(cpu: RootCpu, selector: number): Failure | null {
  if (rplOf(selector) !== 0) return fault(VECTOR.GP, selectorError(selector));
  if (isNullSelector(selector)) return null;
  const found = lookUp(cpu.linear, cpu.registers, selector);
  if (found.kind === 'none') return fault(VECTOR.GP, selectorError(selector));
  if (found.kind !== 'descriptor') return found;
  if (!isWritableData(found) || found.dpl !== 0) return fault(VECTOR.GP, selectorError(selector));
  if (!found.isPresent) return fault(VECTOR.SS, selectorError(selector));
  return markAccessed(cpu.linear, found);
}
