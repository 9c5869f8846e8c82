/**
 * Location expressions, as far as a debugger can say them in words: a register, memory at a register or the frame and
 * an offset, a fixed address, a constant.
 *
 * Source: DWARF 5, "DWARF Expressions" and "Location Descriptions".
 * Invariant: an expression that is none of these is `other`, with its operations named by number; none is guessed.
 */
import { s64, u64 } from '../../abi/uint.js';
import { Cursor } from './cursor.js';
import type { DebugInfo } from './debug-info.js';
import { refuseDwarf } from './errors.js';
import type { Unit } from './unit.js';

/** Where a variable is; registers by DWARF number. */
export type Location =
  | { readonly kind: 'register'; readonly register: number }
  | { readonly kind: 'memory'; readonly register: number; readonly offset: bigint }
  /** At the function's frame base, which `frameBase` of the variable describes. */
  | { readonly kind: 'frame'; readonly offset: bigint }
  /** The canonical frame address of the call frame information. */
  | { readonly kind: 'cfa'; readonly offset: bigint }
  | { readonly kind: 'address'; readonly address: bigint }
  | { readonly kind: 'constant'; readonly value: bigint }
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  /** In parts; a part without a location was optimised out. */
  | { readonly kind: 'pieces'; readonly pieces: readonly Piece[] }
  | { readonly kind: 'other'; readonly operations: readonly number[] }
  | { readonly kind: 'optimisedOut' };

/** A part of a variable. */
export interface Piece {
  readonly location: Location;
  readonly sizeBytes: number;
}

// prettier-ignore
const OP = {
  addr: 0x03, const1u: 0x08, const1s: 0x09, const2u: 0x0a, const2s: 0x0b, const4u: 0x0c, const4s: 0x0d, const8u: 0x0e,
  const8s: 0x0f, constu: 0x10, consts: 0x11, plus_uconst: 0x23, lit0: 0x30, reg0: 0x50, breg0: 0x70, regx: 0x90,
  fbreg: 0x91, bregx: 0x92, piece: 0x93, call_frame_cfa: 0x9c, implicit_value: 0x9e, stack_value: 0x9f, addrx: 0xa1,
  constx: 0xa2, GNU_addr_index: 0xfb, GNU_const_index: 0xfc,
} as const;

const SIGNED_BITS: Readonly<Record<number, bigint>> = {
  [OP.const1s]: 8n,
  [OP.const2s]: 16n,
  [OP.const4s]: 32n,
};

/** What a location expression says. @throws DwarfError. */
export function readLocation(info: DebugInfo, unit: Unit, expression: Uint8Array): Location {
  const cursor = new Cursor('expression', expression);
  const pieces: Piece[] = [];
  let location = nowhere();
  while (!cursor.isAtEnd) {
    info.budget.spend(1);
    const opcode = cursor.u8();
    if (opcode === OP.piece) {
      pieces.push({ location, sizeBytes: cursor.index() });
      location = nowhere();
    } else if (opcode === OP.plus_uconst && isRelative(location)) {
      location = { ...location, offset: location.offset + cursor.uleb() };
    } else if (opcode === OP.stack_value && location.kind === 'constant') {
      continue;
    } else if (location.kind === 'optimisedOut') {
      const next = readOperation(info, unit, cursor, opcode);
      if (next === undefined) return { kind: 'other', operations: [...expression] };
      location = next;
    } else return { kind: 'other', operations: [...expression] };
  }
  return pieces.length > 0 ? { kind: 'pieces', pieces } : location;
}

const nowhere = (): Location => ({ kind: 'optimisedOut' });

type Relative = Extract<Location, { readonly offset: bigint }>;

function isRelative(location: Location): location is Relative {
  return location.kind === 'memory' || location.kind === 'frame' || location.kind === 'cfa';
}

function readOperation(
  info: DebugInfo,
  unit: Unit,
  cursor: Cursor,
  opcode: number,
): Location | undefined {
  const constant = (value: bigint): Location => ({ kind: 'constant', value });
  const address = (value: number): Location => ({ kind: 'address', address: BigInt(value) });
  if (opcode >= OP.lit0 && opcode < OP.reg0) return constant(BigInt(opcode - OP.lit0));
  if (opcode >= OP.reg0 && opcode < OP.breg0)
    return { kind: 'register', register: opcode - OP.reg0 };
  if (opcode >= OP.breg0 && opcode < OP.regx) {
    return { kind: 'memory', register: opcode - OP.breg0, offset: cursor.sleb() };
  }
  const signed = (value: number, bits: bigint): Location => {
    const shift = 64n - bits;
    return constant(u64(s64(BigInt(value) << shift) >> shift));
  };
  // prettier-ignore
  switch (opcode) {
    case OP.addr: return address(cursor.unsigned(unit.addressBytes));
    case OP.addrx: case OP.GNU_addr_index: return address(info.addressAt(unit, cursor.index()));
    case OP.constx: case OP.GNU_const_index: return constant(BigInt(info.addressAt(unit, cursor.index())));
    case OP.const1u: return constant(BigInt(cursor.u8()));
    case OP.const2u: return constant(BigInt(cursor.u16()));
    case OP.const4u: return constant(BigInt(cursor.u32()));
    case OP.const1s: return signed(cursor.u8(), SIGNED_BITS[opcode]!);
    case OP.const2s: return signed(cursor.u16(), SIGNED_BITS[opcode]!);
    case OP.const4s: return signed(cursor.u32(), SIGNED_BITS[opcode]!);
    case OP.const8u: case OP.const8s: return constant(cursor.u64());
    case OP.constu: return constant(cursor.uleb());
    case OP.consts: return constant(u64(cursor.sleb()));
    case OP.regx: return { kind: 'register', register: cursor.index() };
    case OP.bregx: return { kind: 'memory', register: cursor.index(), offset: cursor.sleb() };
    case OP.fbreg: return { kind: 'frame', offset: cursor.sleb() };
    case OP.call_frame_cfa: return { kind: 'cfa', offset: 0n };
    case OP.implicit_value: return { kind: 'bytes', bytes: cursor.block(cursor.index()).slice() };
    case 0: return refuseDwarf('BAD_EXPRESSION', 'operation 0', { section: cursor.section, offset: cursor.offset - 1 });
    default: return undefined;
  }
}
