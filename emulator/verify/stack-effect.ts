/**
 * What an instruction does to RSP and to registers that were made from it.
 *
 * Source: SDM, "Procedure Stack"; the psABI for what a call destroys.
 * Invariant: a register has a number only while its distance from RSP at the function's entry is known for certain;
 * after an alignment of RSP the number is the lowest that RSP can be.
 */
import { writesMemory, writesStack } from '../cpu/sweep.js';
import type { MemoryOperand } from '../cpu/decode.js';
import type { CodeInstruction } from './instruction.js';

/** Distances in bytes from RSP at the entry, by register number; null where unknown. */
export type Distances = readonly (number | null)[];

/** An instruction's effect. */
export interface StackEffect {
  readonly after: Distances;
  /** RSP moves by a value that only a run knows. */
  readonly isDynamic: boolean;
}

/** A memory operand on the stack. */
export interface StackAccess {
  /** Of the lowest byte, from RSP at the entry. */
  readonly distance: number;
  readonly isWrite: boolean;
}

export const RSP = 4;
const RBP = 5;
const WORD = 8;
/** What a call may change: RAX, RCX, RDX, RSI, RDI, R8 to R11. */
const CALLER_SAVED = [0, 1, 2, 6, 7, 8, 9, 10, 11];

/** Where a function begins: RSP is at the return address. */
export const AT_ENTRY: Distances = Array.from({ length: 16 }, (_, n) => (n === RSP ? 0 : null));

const known = (after: Distances): StackEffect => ({ after, isDynamic: false });

function put(distances: Distances, register: number, value: number | null): Distances {
  return distances.map((old, n) => (n === register ? value : old));
}

function move(distances: Distances, register: number, by: number): Distances {
  const value = distances[register] ?? null;
  return value === null ? distances : put(distances, register, value + by);
}

const toNumber = (value: bigint): number => Number.parseInt(value.toString(), 10);

/** The state after an instruction that control passes through; after a call, when it has returned. */
export function stackEffect(one: CodeInstruction, before: Distances): StackEffect {
  const { form, system } = one;
  if (system !== null) return known(afterSystem(system.name, before));
  if (form.map === '0f') return known(afterTwoByte(one, before));
  if (form.map !== 'one') return known(put(before, form.reg === RSP ? -1 : form.reg, null));
  return afterOneByte(one, before);
}

/** PUSH and POP of FS and GS, POPF; the rest may change any register but RSP and RBP. */
function afterSystem(name: string, before: Distances): Distances {
  if (name === 'PUSH_SEG') return move(before, RSP, -WORD);
  if (name === 'POP_SEG' || name.startsWith('POPF')) return move(before, RSP, WORD);
  return before.map((value, n) => (n === RSP || n === RBP ? value : null));
}

function afterTwoByte({ form }: CodeInstruction, before: Distances): Distances {
  const { opcode, reg, rm, mod } = form;
  if (opcode === 0xa0 || opcode === 0xa8) return move(before, RSP, -WORD);
  if (opcode === 0xa1 || opcode === 0xa9) return move(before, RSP, WORD);
  // Wide NOPs and branches change nothing; for the rest either operand may be the one that is written.
  if ((opcode >= 0x18 && opcode <= 0x1f) || (opcode & 0xf0) === 0x80) return before;
  const without = put(before, reg === RSP ? -1 : reg, null);
  return mod === 3 ? put(without, rm, null) : without;
}

function afterOneByte(one: CodeInstruction, before: Distances): StackEffect {
  const { form } = one;
  const { opcode, reg, rm, mod, regBits, memory } = form;
  const low = (opcode & 7) | (form.rexB ? 8 : 0);
  if (opcode >= 0x50 && opcode <= 0x57) return known(move(before, RSP, -WORD));
  if (opcode >= 0x58 && opcode <= 0x5f) {
    return known(put(move(before, RSP, WORD), low, null));
  }
  if (opcode === 0x68 || opcode === 0x6a || opcode === 0x9c) return known(move(before, RSP, -WORD));
  if (opcode === 0x8f) return known(move(before, RSP, WORD));
  if (opcode === 0xff) {
    if (regBits === 6) return known(move(before, RSP, -WORD));
    if (regBits === 2) return known(afterCall(before));
    return known(mod === 3 && regBits < 2 ? put(before, rm, null) : before);
  }
  if (opcode === 0xe8) return known(afterCall(before));
  if (opcode === 0xc9) {
    const base = before[RBP] ?? null;
    return known(put(put(before, RSP, base === null ? null : base + WORD), RBP, null));
  }
  if (opcode === 0xc8) return known(afterEnter(toNumber(form.immediate) & 0xffff, before));
  if (opcode === 0x8d) return known(put(before, reg, addressOf(memory, before)));
  if (opcode === 0x89 && mod === 3) return known(put(before, rm, before[reg] ?? null));
  if (opcode === 0x8b) return known(put(before, reg, mod === 3 ? (before[rm] ?? null) : null));
  if (opcode === 0x81 || opcode === 0x83) {
    return known(mod === 3 ? afterImmediate(one, before) : before);
  }
  if (opcode >= 0xb8 && opcode <= 0xbf) return known(put(before, low, null));
  if (opcode >= 0x90 && opcode <= 0x97) {
    return known(low === 0 ? before : put(put(before, low, null), 0, null));
  }
  return afterOther(one, before);
}

function afterCall(before: Distances): Distances {
  return before.map((value, n) => (CALLER_SAVED.includes(n) ? null : value));
}

function afterEnter(size: number, before: Distances): Distances {
  const frame = move(before, RSP, -WORD);
  return move(put(frame, RBP, frame[RSP] ?? null), RSP, -size);
}

function afterImmediate({ form }: CodeInstruction, before: Distances): Distances {
  const { regBits, rm, immediate, rexW } = form;
  const value = toNumber(immediate);
  if (regBits === 7) return before;
  if (!rexW) return put(before, rm, null);
  if (regBits === 0) return move(before, rm, value);
  if (regBits === 5) return move(before, rm, -value);
  // AND with a power of two: RSP is a multiple of 8, so it drops by at most that much.
  if (regBits === 4 && value < 0) return move(before, rm, -Math.max(0, -value - WORD));
  return put(before, rm, null);
}

/** Comparisons write nothing; of the rest, an operand that is a register may be written. */
function afterOther({ form }: CodeInstruction, before: Distances): StackEffect {
  const { opcode, reg, rm, mod, hasModrm, regBits } = form;
  const isCompare = (opcode >= 0x38 && opcode <= 0x3d) || opcode === 0x84 || opcode === 0x85;
  const isTest = (opcode === 0xf6 || opcode === 0xf7) && regBits < 2;
  if (!hasModrm || isCompare || isTest) return known(before);
  const isAlu = opcode < 0x40;
  const target = isAlu ? ((opcode & 2) !== 0 ? reg : mod === 3 ? rm : -1) : -1;
  if (target === RSP) return { after: before, isDynamic: true };
  const without = isAlu ? put(before, target, null) : put(before, reg === RSP ? -1 : reg, null);
  return known(!isAlu && mod === 3 && rm !== RSP ? put(without, rm, null) : without);
}

function addressOf(memory: MemoryOperand | null, distances: Distances): number | null {
  if (memory === null || memory.index !== null || memory.segment !== null) return null;
  if (memory.base === null || memory.base === 'rip') return null;
  const base = distances[memory.base] ?? null;
  return base === null ? null : base + toNumber(memory.displacement);
}

const WRITING_SITES =
  /^(VMREAD|VMPTRST|S[GIL]DT|STR|SMSW|MOV_FROM_SEG|X?SAVE.*|FX?SAVE.*|CMPXCHG8B|CMPXCHG16B|WRU?SS.)$/;

/** The memory operand of an instruction when it lies on the stack for certain. */
export function stackAccess(one: CodeInstruction, before: Distances): StackAccess | null {
  const { form, system } = one;
  // LEA and the wide NOPs name memory and do not touch it.
  if (form.map === 'one' && form.opcode === 0x8d) return null;
  if (form.map === '0f' && form.opcode >= 0x18 && form.opcode <= 0x1f) return null;
  const distance = addressOf(form.memory, before);
  if (distance === null) return null;
  const isWrite =
    system === null ? writesMemory(form) && !writesStack(form) : WRITING_SITES.test(system.name);
  return { distance, isWrite };
}
