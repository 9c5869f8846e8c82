/**
 * The form of one instruction in 64-bit mode: prefixes, opcode map, ModRM, SIB, displacement, immediate, length.
 *
 * Source: SDM, "Instruction Format" and "Opcode Map".
 * Invariant: `length` is the CPU's for every instruction that 64-bit mode defines, at most 15.
 * Not modelled: XOP and SSE4a; near branches with an operand-size prefix, which CPUs disagree about. Both count as undefined.
 */
import type { MemoryOperand } from './decode.js';

/** The opcode map: one byte, 0F, 0F38, 0F3A, and what VEX and EVEX select. */
export type OpcodeMap = 'one' | '0f' | '0f38' | '0f3a';

/** One instruction, taken apart; numbers of registers include their REX bits. */
export interface InstructionForm {
  readonly length: number;
  readonly map: OpcodeMap;
  readonly opcode: number;
  /** The last of 66, F2, F3 that selects an opcode: F2 and F3 win over 66. */
  readonly mandatory: 0 | 0x66 | 0xf2 | 0xf3;
  readonly hasOperandSize: boolean;
  readonly hasAddressSize: boolean;
  readonly hasRepeat: boolean;
  readonly hasLock: boolean;
  readonly rexW: boolean;
  readonly rexB: boolean;
  readonly encoding: 'legacy' | 'vex' | 'evex';
  readonly hasModrm: boolean;
  readonly mod: number;
  /** ModRM.reg without and with REX.R. */
  readonly regBits: number;
  readonly reg: number;
  /** ModRM.rm without and with REX.B. */
  readonly rmBits: number;
  readonly rm: number;
  readonly memory: MemoryOperand | null;
  readonly immediate: bigint;
}

const MAX_LENGTH = 15;

// What follows an opcode: M ModRM, b 8-bit, w 16-bit, z 16 or 32 bits, v up to 64 bits, o offset, e ENTER, - undefined.
// prefix rows (P) never reach the table. One character a column, one row for each high digit.
// prettier-ignore
const ONE_BYTE = [
  // 0    1    2    3    4    5    6    7    8    9    a    b    c    d    e    f
  'M M M M b z - - M M M M b z - P', // 0
  'M M M M b z - - M M M M b z - -', // 1
  'M M M M b z P - M M M M b z P -', // 2
  'M M M M b z P - M M M M b z P -', // 3
  'P P P P P P P P P P P P P P P P', // 4
  '. . . . . . . . . . . . . . . .', // 5
  '- - P M P P P P z Mz b Mb . . . .', // 6
  'b b b b b b b b b b b b b b b b', // 7
  'Mb Mz - Mb M M M M M M M M M M M M', // 8
  '. . . . . . . . . . - . . . . .', // 9
  'o o o o . . . . b z . . . . . .', // a
  'b b b b b b b b v v v v v v v v', // b
  'Mb Mb w . P P Mb Mz e . w . . b - .', // c
  'M M M M - - - . M M M M M M M M', // d
  'b b b b b b b b n n - b . . . .', // e
  'P . P P . . Mg MG . . . . . . M M', // f
].map((row) => row.split(' '));

// prettier-ignore
const TWO_BYTE = [
  'M M M M - . . . . . - . - M . Mb', // 0
  'M M M M M M M M M M M M M M M M', // 1
  'M M M M - - - - M M M M M M M M', // 2
  '. . . . . . - . P - P - - - - -', // 3
  'M M M M M M M M M M M M M M M M', // 4
  'M M M M M M M M M M M M M M M M', // 5
  'M M M M M M M M M M M M M M M M', // 6
  'Mb Mb Mb Mb M M M . M M - - M M M M', // 7
  'n n n n n n n n n n n n n n n n', // 8
  'M M M M M M M M M M M M M M M M', // 9
  '. . . M Mb M - - . . . M Mb M M M', // a
  'M M M M M M M M M M Mb M M M M M', // b
  'M M Mb M Mb Mb Mb M . . . . . . . .', // c
  'M M M M M M M M M M M M M M M M', // d
  'M M M M M M M M M M M M M M M M', // e
  'M M M M M M M M M M M M M M M M', // f
].map((row) => row.split(' '));

/** Takes the instruction at `at` apart, or null when the bytes are no instruction of 64-bit mode or end too early. */
export function readForm(bytes: Uint8Array, start: number, end: number): InstructionForm | null {
  const limit = Math.min(end, start + MAX_LENGTH);
  let at = start;
  let hasOperandSize = false;
  let hasAddressSize = false;
  let hasLock = false;
  let repeat: 0 | 0xf2 | 0xf3 = 0;
  let segment: 'fs' | 'gs' | null = null;
  let rex = 0;
  let opcode: number;
  for (; ; at++) {
    if (at >= limit) return null;
    opcode = bytes[at]!;
    if (opcode >= 0x40 && opcode <= 0x4f) {
      rex = opcode;
      continue;
    }
    if (opcode === 0x66) hasOperandSize = true;
    else if (opcode === 0x67) hasAddressSize = true;
    else if (opcode === 0xf2 || opcode === 0xf3) repeat = opcode;
    else if (opcode === 0x64) segment = 'fs';
    else if (opcode === 0x65) segment = 'gs';
    else if (opcode === 0xf0) hasLock = true;
    else if (!isIgnoredPrefix(opcode)) break;
    // REX counts only directly before the opcode.
    rex = 0;
  }
  at++;

  let map: OpcodeMap = 'one';
  let encoding: InstructionForm['encoding'] = 'legacy';
  let mandatory: InstructionForm['mandatory'] = repeat !== 0 ? repeat : hasOperandSize ? 0x66 : 0;
  let follows: string;
  if (opcode === 0xc5 || opcode === 0xc4 || opcode === 0x62) {
    const payload = opcode === 0xc5 ? 1 : opcode === 0xc4 ? 2 : 3;
    // REX, LOCK, 66, F2, F3 before VEX or EVEX are undefined.
    if (rex !== 0 || hasLock || mandatory !== 0 || at + payload >= limit) return null;
    const first = bytes[at]!;
    const selected = payload === 1 ? 1 : first & (payload === 2 ? 0x1f : 7);
    const pp = bytes[at + (payload === 1 ? 0 : 1)]! & 3;
    const w = payload === 1 ? 0 : bytes[at + 1]! >> 7;
    rex = 0x40 | (w << 3) | ((~first >> 5) & 4) | (payload === 1 ? 0 : (~first >> 5) & 3);
    const byNumber = vexMap(selected, payload === 3);
    if (byNumber === null) return null;
    map = byNumber;
    mandatory = ([0, 0x66, 0xf3, 0xf2] as const)[pp]!;
    encoding = payload === 3 ? 'evex' : 'vex';
    at += payload;
    opcode = bytes[at++]!;
    follows = vexFollows(map, opcode);
  } else if (opcode === 0x0f) {
    if (at >= limit) return null;
    opcode = bytes[at++]!;
    map = opcode === 0x38 ? '0f38' : opcode === 0x3a ? '0f3a' : '0f';
    if (map !== '0f') {
      if (at >= limit) return null;
      opcode = bytes[at++]!;
    }
    follows = map === '0f38' ? 'M' : map === '0f3a' ? 'Mb' : TWO_BYTE[opcode >> 4]![opcode & 15]!;
  } else {
    follows = ONE_BYTE[opcode >> 4]![opcode & 15]!;
  }
  if (follows === '-') return null;
  // VMREAD and VMWRITE share their opcodes with AMD's bit fields, which Intel CPUs do not have.
  const isVmcsAccess = encoding === 'legacy' && map === '0f' && (opcode & 0xfe) === 0x78;
  if (isVmcsAccess && mandatory !== 0) return null;

  const rexW = (rex & 8) !== 0;
  const rexB = (rex & 1) !== 0;
  let mod = 0;
  let regBits = 0;
  let rmBits = 0;
  let memory: MemoryOperand | null = null;
  const hasModrm = follows.startsWith('M');
  if (hasModrm) {
    if (at >= limit) return null;
    const modrm = bytes[at++]!;
    mod = modrm >> 6;
    regBits = (modrm >> 3) & 7;
    rmBits = modrm & 7;
    // MOV to and from control and debug registers take mod as 3 whatever it says.
    const isRegisterOnly = map === '0f' && opcode >= 0x20 && opcode <= 0x23;
    if (isRegisterOnly) mod = 3;
    if (mod !== 3) {
      const read = readMemory(bytes, at, limit, mod, rmBits, rex, segment);
      if (read === null) return null;
      memory = read.operand;
      at = read.at;
    }
  }

  const size = immediateSize(follows, { hasOperandSize, hasAddressSize, rexW, regBits });
  if (size === null || at + size > limit) return null;
  const immediate = readSigned(bytes, at, size);
  at += size;
  if (map === 'one' && opcode === 0x8f && regBits !== 0) return null;
  return {
    length: at - start,
    map,
    opcode,
    mandatory,
    hasOperandSize,
    hasAddressSize,
    hasRepeat: repeat !== 0,
    hasLock,
    rexW,
    rexB,
    encoding,
    hasModrm,
    mod,
    regBits,
    reg: regBits | ((rex & 4) << 1),
    rmBits,
    rm: rmBits | ((rex & 1) << 3),
    memory,
    immediate,
  };
}

/** The segment overrides that 64-bit mode ignores. */
function isIgnoredPrefix(byte: number): boolean {
  return byte === 0x2e || byte === 0x36 || byte === 0x3e || byte === 0x26;
}

function vexMap(selected: number, isEvex: boolean): OpcodeMap | null {
  switch (selected) {
    case 1:
      return '0f';
    case 2:
      return '0f38';
    case 3:
      return '0f3a';
    case 5:
    case 6:
      // The half-precision maps of EVEX have a ModRM and no immediate, as 0F38.
      return isEvex ? '0f38' : null;
    default:
      return null;
  }
}

function vexFollows(map: OpcodeMap, opcode: number): string {
  if (map === '0f3a') return 'Mb';
  if (map === '0f38') return 'M';
  if (opcode === 0x77) return '.';
  const hasImmediate = (opcode >= 0x70 && opcode <= 0x73) || (opcode >= 0xc2 && opcode <= 0xc6);
  return hasImmediate && opcode !== 0xc3 ? 'Mb' : 'M';
}

interface SizeInputs {
  readonly hasOperandSize: boolean;
  readonly hasAddressSize: boolean;
  readonly rexW: boolean;
  readonly regBits: number;
}

/** Bytes of the immediate, null for a form that is not defined. */
function immediateSize(follows: string, inputs: SizeInputs): number | null {
  const { hasOperandSize, hasAddressSize, rexW, regBits } = inputs;
  const wide = hasOperandSize && !rexW ? 2 : 4;
  switch (follows) {
    case '.':
    case 'M':
      return 0;
    case 'b':
    case 'Mb':
      return 1;
    case 'w':
      return 2;
    case 'e':
      return 3;
    case 'z':
    case 'Mz':
      return wide;
    case 'n':
      return hasOperandSize && !rexW ? null : 4;
    case 'v':
      return rexW ? 8 : wide;
    case 'o':
      return hasAddressSize ? 4 : 8;
    // TEST is the one form of F6 and F7 that has an immediate.
    case 'Mg':
      return regBits < 2 ? 1 : 0;
    case 'MG':
      return regBits < 2 ? wide : 0;
    default:
      return null;
  }
}

function readMemory(
  bytes: Uint8Array,
  start: number,
  limit: number,
  mod: number,
  rmBits: number,
  rex: number,
  segment: 'fs' | 'gs' | null,
): { operand: MemoryOperand; at: number } | null {
  let at = start;
  let base: number | 'rip' | null = rmBits | ((rex & 1) << 3);
  let index: number | null = null;
  let scale: 1 | 2 | 4 | 8 = 1;
  let size = mod === 1 ? 1 : mod === 2 ? 4 : 0;
  if (rmBits === 4) {
    if (at >= limit) return null;
    const sib = bytes[at++]!;
    scale = ([1, 2, 4, 8] as const)[sib >> 6]!;
    const indexNumber = ((sib >> 3) & 7) | ((rex & 2) << 2);
    index = indexNumber === 4 ? null : indexNumber;
    base = (sib & 7) | ((rex & 1) << 3);
    if ((sib & 7) === 5 && mod === 0) {
      base = null;
      size = 4;
    }
  } else if (rmBits === 5 && mod === 0) {
    base = 'rip';
    size = 4;
  }
  if (at + size > limit) return null;
  const displacement = readSigned(bytes, at, size);
  return { operand: { kind: 'memory', base, index, scale, displacement, segment }, at: at + size };
}

function readSigned(bytes: Uint8Array, at: number, size: number): bigint {
  let value = 0;
  if (size <= 4) {
    for (let index = 0; index < size; index++) value |= bytes[at + index]! << (8 * index);
    const unused = 32 - 8 * size;
    return size === 0 ? 0n : BigInt((value << unused) >> unused);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, 8);
  return view.getBigInt64(0, true);
}
