/**
 * The compact binary form of a fuzzer's input, which AFL++ and libFuzzer can hold in their corpora.
 *
 *   input  = base, op*                         one byte, then at most MAX_OPS
 *   op     = tag, ...                          tag modulo 8 says which
 *   exit   = 0, basic, modifiers, length, interruptibility, mode, shape, [what shape names]
 *   shape  = 1 qualification u64 | 2 interruption u32 u32 | 4 vectoring u32 u32 | 8 RAX RCX RDX u64 | 16 RIP u64 | 32 GPA u64
 *   others = 1 vector | 2 | 3 status | 4 exponent mantissa | 5 attached | 6 | 7 what index value
 *
 * Numbers are little-endian.
 * Invariant: every byte string decodes; what is cut off reads as 0. decode(encode(x)) is x.
 */
import { unreachable } from '../../abi/errors.js';
import { MAX_EXPONENT, MAX_OPS, type ExitOp, type FuzzInput, type Op } from '../stage/input.js';

const SHAPE = {
  QUALIFICATION: 1,
  INTERRUPTION: 2,
  VECTORING: 4,
  REGISTERS: 8,
  RIP: 16,
  GUEST_PHYSICAL: 32,
} as const;
const TAGS = 8;
/** Longest encoding of one op. */
const MAX_OP_BYTES = 7 + 8 + 8 + 8 + 24 + 8 + 8;

/** The bytes of an input. */
export function encode(input: FuzzInput): Uint8Array {
  const out = new Writer(1 + MAX_OP_BYTES * input.ops.length);
  out.u8(input.base);
  for (const op of input.ops) writeOp(out, op);
  return out.bytes();
}

/** The input that any bytes stand for. */
export function decode(bytes: Uint8Array): FuzzInput {
  const from = new Reader(bytes);
  const base = from.u8();
  const ops: Op[] = [];
  while (!from.atEnd && ops.length < MAX_OPS) ops.push(readOp(from));
  return { base, ops };
}

function writeOp(out: Writer, op: Op): void {
  switch (op.kind) {
    case 'exit':
      writeExit(out, op);
      return;
    case 'interrupt':
      out.u8(1, op.vector);
      return;
    case 'nmi':
      out.u8(2);
      return;
    case 'machine-check':
      out.u8(3, op.status);
      return;
    case 'time':
      out.u8(4, op.exponent, op.mantissa);
      return;
    case 'flip':
      out.u8(5, op.attached ? 1 : 0);
      return;
    case 'stop':
      out.u8(6);
      return;
    case 'configure':
      out.u8(7, op.what, op.index, op.value);
      return;
    default:
      unreachable(op);
  }
}

function readOp(from: Reader): Op {
  switch (from.u8() % TAGS) {
    case 0:
      return readExit(from);
    case 1:
      return { kind: 'interrupt', vector: from.u8() };
    case 2:
      return { kind: 'nmi' };
    case 3:
      return { kind: 'machine-check', status: from.u8() };
    case 4:
      return { kind: 'time', exponent: from.u8() % (MAX_EXPONENT + 1), mantissa: from.u8() };
    case 5:
      return { kind: 'flip', attached: (from.u8() & 1) !== 0 };
    case 6:
      return { kind: 'stop' };
    default:
      return { kind: 'configure', what: from.u8(), index: from.u8(), value: from.u8() };
  }
}

function writeExit(out: Writer, op: ExitOp): void {
  const shape =
    (op.qualification === undefined ? 0 : SHAPE.QUALIFICATION) |
    (op.interruption === undefined ? 0 : SHAPE.INTERRUPTION) |
    (op.vectoring === undefined ? 0 : SHAPE.VECTORING) |
    (op.registers === undefined ? 0 : SHAPE.REGISTERS) |
    (op.rip === undefined ? 0 : SHAPE.RIP) |
    (op.guestPhysicalAddress === undefined ? 0 : SHAPE.GUEST_PHYSICAL);
  out.u8(0, op.basic, op.modifiers, op.instructionLength, op.interruptibility, op.mode, shape);
  if (op.qualification !== undefined) out.u64(op.qualification);
  if (op.interruption !== undefined) out.u32(...op.interruption);
  if (op.vectoring !== undefined) out.u32(...op.vectoring);
  if (op.registers !== undefined) out.u64(...op.registers);
  if (op.rip !== undefined) out.u64(op.rip);
  if (op.guestPhysicalAddress !== undefined) out.u64(op.guestPhysicalAddress);
}

function readExit(from: Reader): ExitOp {
  const fixed = {
    kind: 'exit',
    basic: from.u8(),
    modifiers: from.u8(),
    instructionLength: from.u8(),
    interruptibility: from.u8(),
    mode: from.u8(),
  } as const;
  const shape = from.u8();
  const has = (bit: number): boolean => (shape & bit) !== 0;
  return {
    ...fixed,
    ...(has(SHAPE.QUALIFICATION) && { qualification: from.u64() }),
    ...(has(SHAPE.INTERRUPTION) && { interruption: [from.u32(), from.u32()] }),
    ...(has(SHAPE.VECTORING) && { vectoring: [from.u32(), from.u32()] }),
    ...(has(SHAPE.REGISTERS) && { registers: [from.u64(), from.u64(), from.u64()] }),
    ...(has(SHAPE.RIP) && { rip: from.u64() }),
    ...(has(SHAPE.GUEST_PHYSICAL) && { guestPhysicalAddress: from.u64() }),
  };
}

class Writer {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;
  constructor(capacity: number) {
    this.#bytes = new Uint8Array(capacity);
    this.#view = new DataView(this.#bytes.buffer);
  }
  u8(...values: readonly number[]): void {
    for (const value of values) this.#bytes[this.#at++] = value;
  }
  u32(...values: readonly number[]): void {
    for (const value of values) {
      this.#view.setUint32(this.#at, value, true);
      this.#at += 4;
    }
  }
  u64(...values: readonly bigint[]): void {
    for (const value of values) {
      this.#view.setBigUint64(this.#at, value, true);
      this.#at += 8;
    }
  }
  bytes(): Uint8Array {
    return this.#bytes.slice(0, this.#at);
  }
}

/** Reads past the end are 0, so that a cut file is an input too. */
class Reader {
  readonly #bytes: Uint8Array;
  #at = 0;
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }
  get atEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }
  u8(): number {
    return this.#bytes[this.#at++] ?? 0;
  }
  u32(): number {
    let value = 0;
    for (let shift = 0; shift < 32; shift += 8) value |= this.u8() << shift;
    return value >>> 0;
  }
  u64(): bigint {
    const low = BigInt(this.u32());
    return low | (BigInt(this.u32()) << 32n);
  }
}
