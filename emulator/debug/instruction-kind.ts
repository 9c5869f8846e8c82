/**
 * What the stepping commands must know of an instruction: whether it calls, returns, or ends a handler.
 *
 * Source: SDM, "Instruction Format"; opcodes of CALL, RET, IRET, VMLAUNCH and VMRESUME.
 * Invariant: prefixes that change nothing here are skipped; anything else is `other`.
 */

/** What an instruction does to the flow of calls. */
export type FlowKind = 'call' | 'return' | 'event-return' | 'entry' | 'other';

/** REX, operand and address size, BND/REPNE, REP, segment overrides, NOTRACK. */
const isPrefix = (byte: number): boolean =>
  (byte & 0xf0) === 0x40 ||
  [0x66, 0x67, 0xf2, 0xf3, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65].includes(byte);

/** Classifies the instruction at `at`. */
export function flowKindAt(bytes: Uint8Array, at: number): FlowKind {
  let here = at;
  while (here < at + 14 && isPrefix(bytes[here] ?? 0)) here++;
  const opcode = bytes[here] ?? 0;
  const next = bytes[here + 1] ?? 0;
  switch (opcode) {
    case 0xe8:
      return 'call';
    case 0xff:
      return ((next >> 3) & 7) === 2 ? 'call' : 'other';
    case 0xc2:
    case 0xc3:
    case 0xca:
    case 0xcb:
      return 'return';
    case 0xcf:
      return 'event-return';
    case 0x0f:
      return next === 1 && [0xc2, 0xc3].includes(bytes[here + 2] ?? 0) ? 'entry' : 'other';
    default:
      return 'other';
  }
}
