/**
 * Far CALL and JMP through memory, the only forms in 64-bit mode.
 *
 * Source: SDM, "CALL", "JMP": the far operations in IA-32e mode; "Far Transfers" of control-flow enforcement.
 * Invariant: a transfer that faults has pushed nothing and changed no register.
 * Not modelled: call gates, compatibility mode, 16-bit offsets: they stop.
 */
import { VECTOR } from '../../../../abi/interruption.js';
import { isCanonical, u64 } from '../../../../abi/uint.js';
import type { Instruction } from '../../../cpu/decode.js';
import { REG } from '../../../cpu/registers.js';
import { isShadowStackOn, trackFarTransfer } from '../control-flow.js';
import {
  isCode,
  isConforming,
  isNullSelector,
  lookUp,
  markAccessed,
  rplOf,
} from '../descriptors.js';
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
import { pushFrame } from '../shadow-stack.js';
import { readFarPointer, writeMemory } from './operands.js';

/** Bytes of the offset, and of each slot of the stack. */
type OffsetBytes = 4 | 8;

export const FAR_TRANSFER_MODELS: ModelTable = {
  JMP_FARQ: (cpu, instruction) => transfer(cpu, instruction, 8, false),
  JMP_FARD: (cpu, instruction) => transfer(cpu, instruction, 4, false),
  CALL_FARQ: (cpu, instruction) => transfer(cpu, instruction, 8, true),
  CALL_FARD: (cpu, instruction) => transfer(cpu, instruction, 4, true),
};

const CALL_GATE = 0xc;

function transfer(
  cpu: RootCpu,
  instruction: Instruction,
  offsetBytes: OffsetBytes,
  isCall: boolean,
): Outcome {
  const pointer = readFarPointer(cpu, instruction, offsetBytes);
  if ('kind' in pointer) return pointer;
  const { offset: rip, selector } = pointer;
  const refused = checkTarget(cpu, instruction.name, selector);
  if (refused !== null) return refused;
  const { values } = cpu.registers;
  const behind = u64(values[REG.RIP]! + u64(instruction.length));
  const failure = isCall ? push(cpu, offsetBytes, rip, behind) : canonical(rip);
  if (failure !== null) return failure;
  values[REG.RIP] = rip;
  values[REG.CS] = u64(selector & ~3);
  trackFarTransfer(cpu);
  return JUMPED;
}

const canonical = (rip: bigint): Failure | null => (isCanonical(rip) ? null : GENERAL_PROTECTION);

/** The new CS: 64-bit code at CPL 0, conforming or not. */
function checkTarget(cpu: RootCpu, name: string, selector: number): Failure | null {
  const site = cpu.registers.values[REG.RIP]!;
  const refused = fault(VECTOR.GP, selectorError(selector));
  if (isNullSelector(selector)) return GENERAL_PROTECTION;
  const found = lookUp(cpu.linear, cpu.registers, selector);
  if (found.kind === 'none') return refused;
  if (found.kind !== 'descriptor') return found;
  if (found.isSystem && found.type === CALL_GATE) return unmodelled(name, site, 'a call gate');
  if (!isCode(found)) return refused;
  if (found.isLong && found.isDefault32) return refused;
  const isAllowed = isConforming(found)
    ? found.dpl === 0
    : rplOf(selector) === 0 && found.dpl === 0;
  if (!isAllowed) return refused;
  if (!found.isPresent) return fault(VECTOR.NP, selectorError(selector));
  if (!found.isLong) return unmodelled(name, site, 'compatibility mode');
  return markAccessed(cpu.linear, found);
}

/** CS and the return address, on the shadow stack too; nothing is pushed when either refuses. */
function push(cpu: RootCpu, slotBytes: OffsetBytes, rip: bigint, behind: bigint): Failure | null {
  const { values } = cpu.registers;
  const cs = values[REG.CS]!;
  const rsp = u64(values[REG.RSP]! - u64(2 * slotBytes));
  const failure = cpu.linear.open(rsp, 2 * slotBytes, 'write', true) ?? canonical(rip);
  if (failure !== null) return failure;
  if (isShadowStackOn(cpu)) {
    const shadow = pushFrame(cpu, values[REG.SSP]!, cs, behind);
    if (shadow !== null) return shadow;
  }
  writeMemory(cpu, u64(rsp + u64(slotBytes)), slotBytes, cs);
  writeMemory(cpu, rsp, slotBytes, behind);
  values[REG.RSP] = rsp;
  return null;
}
