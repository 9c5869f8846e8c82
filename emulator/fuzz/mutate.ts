/**
 * Mutations of inputs: of their grammar, of their bytes, and splices of two.
 *
 * Source: the ideas are those of AFL's havoc stage and of grammar-aware fuzzers; values come from dictionary.ts.
 * Invariant: a pure function of the stream of random numbers, so that one seed gives one campaign.
 */
import { EXIT_REASON } from '../../abi/exit-reasons.js';
import type { Random } from '../clock/random.js';
import { decode, encode } from './codec.js';
import { EDGES, INTERRUPTIONS, LEAVES, MSR_INDICES, REASONS, RIPS, VECTORS } from './dictionary.js';
import type { MeasuredGuest } from './measured.js';
import { MAX_EXPONENT, MAX_OPS, type ExitOp, type FuzzInput, type Op } from '../stage/input.js';

const pick = <T>(random: Random, from: readonly T[]): T => from[random.below(from.length)]!;
const oneIn = (random: Random, n: number): boolean => random.below(n) === 0;

/** What fresh ops are drawn from. */
export interface OpSource {
  /** One input in so many is made anew. */
  readonly freshEvery: number;
  /** Ops of a fresh input, at most. */
  readonly longest: number;
  op(random: Random): Op;
  exit(random: Random): ExitOp;
}

/** Every reason as often as any other, with values from the dictionary, and all else that may happen. */
export const ALL: OpSource = { freshEvery: 32, longest: 8, op: generateOp, exit: generateExit };

/** A busy guest's exits; now and then anything at all. */
export function measured(guest: MeasuredGuest): OpSource {
  return {
    freshEvery: 2,
    longest: MAX_OPS,
    op: (random) => (oneIn(random, 64) ? generateOp(random) : guest.op()),
    exit: () => guest.exit(),
  };
}

/** A fresh input of a few ops. */
export function generate(random: Random, source: OpSource): FuzzInput {
  const length = 1 + random.below(source.longest);
  return {
    base: random.below(256),
    ops: Array.from({ length }, () => source.op(random)),
  };
}

/** A changed copy; `other` is what a splice takes from. */
export function mutate(
  random: Random,
  input: FuzzInput,
  other: FuzzInput,
  source: OpSource,
): FuzzInput {
  let result = input;
  for (let n = 1 << random.below(4); n > 0; n--) result = mutateOnce(random, result, other, source);
  return result;
}

function mutateOnce(
  random: Random,
  input: FuzzInput,
  other: FuzzInput,
  source: OpSource,
): FuzzInput {
  const { ops } = input;
  const at = ops.length === 0 ? 0 : random.below(ops.length);
  switch (random.below(8)) {
    case 0:
      return {
        ...input,
        ops: [...ops.slice(0, at), source.op(random), ...ops.slice(at)].slice(0, MAX_OPS),
      };
    case 1:
      return ops.length < 2 ? input : { ...input, ops: ops.toSpliced(at, 1) };
    case 2:
      return {
        ...input,
        ops: [...ops.slice(0, at), ...other.ops.slice(random.below(other.ops.length + 1))].slice(
          0,
          MAX_OPS,
        ),
      };
    case 3:
      return ops.length === 0 ? input : { ...input, ops: [...ops, ops[at]!].slice(0, MAX_OPS) };
    case 4:
      return { ...input, base: random.below(256) };
    case 5:
      return havoc(random, input);
    default: {
      const op = ops[at];
      return op === undefined
        ? input
        : { ...input, ops: ops.with(at, mutateOp(random, op, source)) };
    }
  }
}

/** Bytes flipped, set, or moved on by one, in the binary form. */
function havoc(random: Random, input: FuzzInput): FuzzInput {
  const bytes = encode(input);
  const at = random.below(bytes.length);
  switch (random.below(3)) {
    case 0:
      bytes[at]! ^= 1 << random.below(8);
      break;
    case 1:
      bytes[at] = random.below(256);
      break;
    default:
      bytes[at]! += oneIn(random, 2) ? 1 : 255;
  }
  return decode(bytes);
}

function generateOp(random: Random): Op {
  switch (random.below(16)) {
    case 0:
      return { kind: 'interrupt', vector: pick(random, VECTORS) };
    case 1:
      return { kind: 'nmi' };
    case 2:
      return { kind: 'machine-check', status: random.below(8) };
    case 3:
      return {
        kind: 'time',
        exponent: random.below(MAX_EXPONENT + 1),
        mantissa: random.below(256),
      };
    case 4:
      return oneIn(random, 4) ? { kind: 'stop' } : { kind: 'flip', attached: oneIn(random, 2) };
    case 5:
      return {
        kind: 'configure',
        what: random.below(8),
        index: random.below(128),
        value: random.below(256),
      };
    default:
      return generateExit(random);
  }
}

function generateExit(random: Random): ExitOp {
  const basic = pick(random, REASONS);
  return {
    kind: 'exit',
    basic,
    modifiers: oneIn(random, 64) ? random.below(256) : 0,
    instructionLength: oneIn(random, 4) ? random.below(15) : 1,
    interruptibility: oneIn(random, 4) ? random.below(16) : 0,
    mode: oneIn(random, 4) ? random.below(16) : 2,
    registers: registersFor(random, basic),
    ...(basic <= 1 && { interruption: pick(random, INTERRUPTIONS) }),
    ...(oneIn(random, 8) && { vectoring: pick(random, INTERRUPTIONS) }),
    ...(oneIn(random, 4) && { qualification: number64(random) }),
    ...(oneIn(random, 8) && { rip: pick(random, RIPS) }),
    ...(oneIn(random, 8) && { guestPhysicalAddress: number64(random) }),
  };
}

function registersFor(random: Random, basic: number): readonly [bigint, bigint, bigint] {
  switch (basic) {
    case EXIT_REASON.EXIT_REASON_CPUID:
      return [pick(random, LEAVES), BigInt(random.below(4)), number64(random)];
    case EXIT_REASON.EXIT_REASON_MSR_READ:
    case EXIT_REASON.EXIT_REASON_MSR_WRITE:
      return [
        number64(random),
        pick(random, MSR_INDICES),
        oneIn(random, 2) ? 0n : number64(random),
      ];
    default:
      return [number64(random), number64(random), number64(random)];
  }
}

const number64 = (random: Random): bigint =>
  oneIn(random, 2) ? pick(random, EDGES) : random.nextU64() >> BigInt(random.below(64));

function mutateOp(random: Random, op: Op, source: OpSource): Op {
  if (op.kind !== 'exit') return source.op(random);
  const fresh = source.exit(random);
  switch (random.below(9)) {
    case 0:
      return { ...fresh, mode: op.mode };
    case 1:
      return { ...op, registers: registersFor(random, op.basic) };
    case 2:
      return { ...op, instructionLength: random.below(16) };
    case 3:
      return { ...op, interruptibility: random.below(16) };
    case 4:
      return { ...op, mode: random.below(16) };
    case 5:
      return { ...op, rip: pick(random, RIPS) };
    case 6:
      return { ...op, interruption: pick(random, INTERRUPTIONS) };
    case 7:
      return { ...op, vectoring: pick(random, INTERRUPTIONS) };
    default:
      return { ...op, qualification: number64(random) };
  }
}
