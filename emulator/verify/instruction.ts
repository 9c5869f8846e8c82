/**
 * One instruction of .text and where it hands control.
 *
 * Source: SDM, "Instruction Format", "Control Transfer Instructions".
 * Invariant: a transfer is what the bytes say; whether it is allowed is code-rules.ts' business.
 */
import type { Instruction, MemoryOperand } from '../cpu/decode.js';
import { readForm, type InstructionForm } from '../cpu/instruction-format.js';
import { systemInstruction } from '../cpu/system-instructions.js';

/** An instruction at a position of .text. */
export interface CodeInstruction {
  readonly at: number;
  readonly form: InstructionForm;
  /** What the models execute; null for plain integer instructions. */
  readonly system: Instruction | null;
}

/** Where control goes after an instruction. */
export type Transfer =
  | { readonly kind: 'next' }
  | { readonly kind: 'jump' | 'branch' | 'call'; readonly target: number }
  | IndirectTransfer
  /** RET and IRET. */
  | { readonly kind: 'return' }
  /** Far transfers and those to another privilege level. */
  | { readonly kind: 'far'; readonly name: string }
  | { readonly kind: 'trap' };

/** A jump or call whose target is a value; of a register or of memory. */
export interface IndirectTransfer {
  readonly kind: 'indirect';
  readonly isCall: boolean;
  readonly register: number | null;
  readonly memory: MemoryOperand | null;
  /** Without a NOTRACK prefix indirect branch tracking wants an ENDBR64 at the target. */
  readonly isTracked: boolean;
}

const NOTRACK = 0x3e;
const FAR = /^(RETF.?|CALL_FAR.|JMP_FAR.|SYSCALL|SYSRETQ?|SYSENTER|SYSEXITQ?|RSM|UIRET|ERET[SU])$/;

/** The instruction at a position; null when the bytes are none. */
export function instructionAt(text: Uint8Array, at: number): CodeInstruction | null {
  const form = readForm(text, at, text.length);
  return form === null ? null : { at, form, system: systemInstruction(form) };
}

/** Where an instruction hands control. */
export function transferOf(text: Uint8Array, { at, form, system }: CodeInstruction): Transfer {
  const { map, opcode, regBits } = form;
  if (system !== null) {
    if (FAR.test(system.name)) return { kind: 'far', name: system.name };
    return { kind: system.name.startsWith('IRET') ? 'return' : 'next' };
  }
  const target = at + form.length + Number.parseInt(form.immediate.toString(), 10);
  if (map === '0f') {
    if (opcode >= 0x80 && opcode <= 0x8f) return { kind: 'branch', target };
    return { kind: opcode === 0x0b || opcode === 0xb9 || opcode === 0xff ? 'trap' : 'next' };
  }
  if (map !== 'one') return { kind: 'next' };
  if (opcode === 0xe8) return { kind: 'call', target };
  if (opcode === 0xe9 || opcode === 0xeb) return { kind: 'jump', target };
  if ((opcode & 0xf0) === 0x70 || (opcode & 0xfc) === 0xe0) return { kind: 'branch', target };
  if (opcode === 0xc2 || opcode === 0xc3) return { kind: 'return' };
  if (opcode === 0xff && (regBits === 2 || regBits === 4)) {
    const prefixes = text.subarray(at, at + form.length);
    return {
      kind: 'indirect',
      isCall: regBits === 2,
      register: form.memory === null ? form.rm : null,
      memory: form.memory,
      isTracked: prefixes[0] !== NOTRACK && prefixes[1] !== NOTRACK,
    };
  }
  return { kind: 'next' };
}

/** Whether the bytes at a position are ENDBR64. */
export function isEndbr64(text: Uint8Array, at: number): boolean {
  return [0xf3, 0x0f, 0x1e, 0xfa].every((byte, index) => text[at + index] === byte);
}
