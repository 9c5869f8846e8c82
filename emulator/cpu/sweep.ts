/**
 * The linear sweep of executable bytes: where instructions begin, which are the models' and what each does to the count.
 *
 * Source: DESIGN ("Traps are sites, not callbacks").
 * Invariant: every byte of the range belongs to exactly one swept instruction; bytes that are none are sites of one byte
 * that stop as an invalid instruction.
 * Not modelled: two instruction streams over the same bytes; a jump into one's middle stops the run.
 */
import { UNDEFINED_NAME, systemInstruction } from './system-instructions.js';
import type { Instruction } from './decode.js';
import { readForm, type InstructionForm } from './instruction-format.js';

/** Flags of a byte in a sweep; native/code-map.h has the same numbers. */
export const BYTE_FLAG = {
  BOUNDARY: 1,
  AFTER_BRANCH: 2,
  REPEAT: 4,
  STORE: 8,
  PUSH_FLAGS: 16,
  UNDEFINED: 32,
} as const;

/** How the binding answers a site without a stop; native/code-map.h has the same numbers. */
export const INLINE = { NONE: 0, VMREAD: 1, VMWRITE: 2, RDTSC: 3 } as const;

/** A site and how the binding answers it; `rm` and `reg` are its register operands by ModRM number. */
export interface SweptSite {
  readonly offset: number;
  readonly instruction: Instruction;
  readonly inline: number;
  readonly rm: number;
  readonly reg: number;
}

/** What a sweep found, wherever the bytes lie; `flags` has one byte for each byte of code. */
export interface Sweep {
  readonly flags: Uint8Array;
  readonly sites: readonly SweptSite[];
}

/**
 * Sweeps `bytes`. Each of `starts` is an offset known to begin an instruction: a swept one that would swallow it ends
 * there instead, as after data between functions.
 */
export function sweep(bytes: Uint8Array, starts: readonly number[] = []): Sweep {
  const flags = new Uint8Array(bytes.length);
  const sites: SweptSite[] = [];
  const known = [...starts].sort((a, b) => a - b);
  let nextKnown = 0;
  let afterBranch = 0;
  let last: Swept = UNDEFINED_BYTE;
  for (let at = 0; at < bytes.length; at += last.length) {
    while (nextKnown < known.length && known[nextKnown]! <= at) nextKnown++;
    const end = known[nextKnown] ?? bytes.length;
    if (!isRepeated(bytes, at, end, last)) last = sweepOne(bytes, at, end);
    const { instruction } = last;
    flags[at] = BYTE_FLAG.BOUNDARY | afterBranch | last.flags;
    afterBranch = last.endsBlock ? BYTE_FLAG.AFTER_BRANCH : 0;
    if (instruction === null) continue;
    const { inline, rm, reg } = last;
    sites.push({ offset: at, instruction, inline, rm, reg });
  }
  return { flags, sites };
}

/** What a sweep knows of one instruction, wherever it stands. */
interface Swept {
  readonly length: number;
  /** What makes it a site, or null. */
  readonly instruction: Instruction | null;
  readonly flags: number;
  readonly endsBlock: boolean;
  readonly inline: number;
  readonly rm: number;
  readonly reg: number;
  /** Whether all its bytes were there to be decoded. */
  readonly isWhole: boolean;
}

const UNDEFINED_BYTE: Swept = {
  length: 1,
  instruction: { name: UNDEFINED_NAME, length: 1, operands: [], isFpu: false },
  flags: 0,
  endsBlock: false,
  inline: INLINE.NONE,
  rm: 0,
  reg: 0,
  isWhole: false,
};

function sweepOne(bytes: Uint8Array, at: number, end: number): Swept {
  const form = readForm(bytes, at, end);
  if (form === null) return UNDEFINED_BYTE;
  const instruction = systemInstruction(form);
  const name = instruction?.name ?? null;
  return {
    length: form.length,
    instruction,
    flags: formFlags(form, name),
    endsBlock: endsBlock(form, name),
    inline: name === null ? INLINE.NONE : inlineKind(form, name),
    rm: form.rm,
    reg: form.reg,
    isWhole: true,
  };
}

/** Whether the instruction before stands here again, as in padding: most of a kernel's text here is one instruction. */
function isRepeated(bytes: Uint8Array, at: number, end: number, last: Swept): boolean {
  const { length } = last;
  if (!last.isWhole || at < length || at + length > end) return false;
  for (let byte = 0; byte < length; byte++) {
    if (bytes[at + byte] !== bytes[at + byte - length]) return false;
  }
  return true;
}

/** Register forms alone: a memory operand may fault, which the model does. */
function inlineKind(form: InstructionForm, name: string): number {
  if (name === 'RDTSC' && form.length === 2) return INLINE.RDTSC;
  if (form.mod !== 3) return INLINE.NONE;
  if (name === 'VMREAD') return INLINE.VMREAD;
  return name === 'VMWRITE' ? INLINE.VMWRITE : INLINE.NONE;
}

function formFlags(form: InstructionForm, site: string | null): number {
  if (site !== null) return 0;
  let flags = 0;
  if (form.map === 'one') {
    const isString =
      (form.opcode >= 0xa4 && form.opcode <= 0xa7) || (form.opcode >= 0xaa && form.opcode <= 0xaf);
    if (isString && form.hasRepeat) flags |= BYTE_FLAG.REPEAT;
    if (form.opcode === 0x9c) flags |= BYTE_FLAG.PUSH_FLAGS;
  }
  if (isUd(form)) flags |= BYTE_FLAG.UNDEFINED;
  if (writesMemory(form)) flags |= BYTE_FLAG.STORE;
  return flags;
}

/** UD0, UD1, UD2: undefined by definition. */
function isUd({ map, opcode }: InstructionForm): boolean {
  return map === '0f' && (opcode === 0x0b || opcode === 0xb9 || opcode === 0xff);
}

/** Whether the instruction transfers control, so that what follows is reached some other way or by a fall-through. */
function endsBlock(form: InstructionForm, site: string | null): boolean {
  if (site !== null) return BRANCHING_SITES.test(site);
  const { map, opcode } = form;
  if (map === '0f') return (opcode >= 0x80 && opcode <= 0x8f) || isUd(form);
  if (map !== 'one') return false;
  if (opcode >= 0x70 && opcode <= 0x7f) return true;
  if (opcode >= 0xe0 && opcode <= 0xe3) return true;
  if (opcode === 0xff) return form.regBits === 2 || form.regBits === 4;
  return (
    opcode === 0xc2 || opcode === 0xc3 || opcode === 0xe8 || opcode === 0xe9 || opcode === 0xeb
  );
}

const BRANCHING_SITES =
  /^(VMLAUNCH|VMRESUME|IRET.|RETF.|CALL_FAR.|JMP_FAR.|INT|INT1|INT3|SYS(CALL|RETQ?|ENTER|EXITQ?)|UIRET|ERET[SU]|XBEGIN|XABORT|RSM)$/;

// Opcodes of the one-byte map that write their ModRM operand.
const ALU_STORES = new Set([0x00, 0x08, 0x10, 0x18, 0x20, 0x28, 0x30]);

/** Whether the integer instruction writes memory, its stack included. */
export function writesMemory(form: InstructionForm): boolean {
  return writesStack(form) || (form.map === 'one' ? writesOne(form) : writesExtended(form));
}

/** Pushes and calls. */
export function writesStack(form: InstructionForm): boolean {
  const { map, opcode } = form;
  if (map === '0f') return opcode === 0xa0 || opcode === 0xa8;
  if (map !== 'one') return false;
  if (opcode >= 0x50 && opcode <= 0x57) return true;
  if (opcode === 0xff) return form.regBits === 2 || form.regBits === 6;
  return (
    opcode === 0x68 || opcode === 0x6a || opcode === 0x9c || opcode === 0xc8 || opcode === 0xe8
  );
}

function writesOne(form: InstructionForm): boolean {
  const { opcode, regBits } = form;
  // STOS, MOVS and the moves to an absolute address name no ModRM.
  if ((opcode >= 0xa2 && opcode <= 0xa5) || opcode === 0xaa || opcode === 0xab) return true;
  if (form.memory === null) return false;
  if (ALU_STORES.has(opcode & 0xfe)) return true;
  if (opcode >= 0x80 && opcode <= 0x83) return regBits !== 7;
  if (opcode >= 0x86 && opcode <= 0x89) return true;
  if (opcode === 0x8c || opcode === 0x8f || opcode === 0xc6 || opcode === 0xc7) return true;
  if (opcode === 0xc0 || opcode === 0xc1 || (opcode >= 0xd0 && opcode <= 0xd3)) return true;
  if (opcode === 0xf6 || opcode === 0xf7) return regBits === 2 || regBits === 3;
  return (opcode === 0xfe || opcode === 0xff) && regBits < 2;
}

function writesExtended(form: InstructionForm): boolean {
  const { map, opcode, regBits } = form;
  if (form.memory === null || form.encoding !== 'legacy') return false;
  if (map === '0f38') return opcode === 0xf1 && form.mandatory !== 0xf2 && form.mandatory !== 0xf3;
  if (map !== '0f') return false;
  if (opcode >= 0x90 && opcode <= 0x9f) return true;
  if (opcode === 0xba) return regBits >= 5;
  if (opcode === 0xc7) return regBits === 1;
  return [0xa4, 0xa5, 0xab, 0xac, 0xad, 0xb0, 0xb1, 0xb3, 0xbb, 0xc0, 0xc1, 0xc3].includes(opcode);
}
