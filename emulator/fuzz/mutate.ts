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
import { MAX_EXPONENT, MAX_OPS, type ExitOp, type FuzzInput, type Op } from '../stage/input.js';

const pick = <T>(random: Random, from: readonly T[]): T => from[random.below(from.length)]!;
const oneIn = (random: Random, n: number): boolean => random.below(n) === 0;

/** Which reasons a campaign draws. */
export type Mix = 'measured' | 'all';

/** Reasons of a busy guest, each as often as among its exits, more or less. */
// prettier-ignore
const MEASURED: readonly number[] = [
  ...Array<number>(14).fill(EXIT_REASON.EXIT_REASON_MSR_WRITE), ...Array<number>(6).fill(EXIT_REASON.EXIT_REASON_HLT),
  EXIT_REASON.EXIT_REASON_PREEMPTION_TIMER, EXIT_REASON.EXIT_REASON_EXTERNAL_INTERRUPT, EXIT_REASON.EXIT_REASON_PAUSE_INSTRUCTION,
  EXIT_REASON.EXIT_REASON_CPUID, EXIT_REASON.EXIT_REASON_MSR_READ, EXIT_REASON.EXIT_REASON_RDTSC,
];

/** A fresh input of a few ops. */
export function generate(random: Random, mix: Mix): FuzzInput {
  const length = 1 + random.below(8);
  return {
    base: random.below(256),
    ops: Array.from({ length }, () => generateOp(random, mix)),
  };
}

/** A changed copy; `other` is what a splice takes from. */
export function mutate(random: Random, input: FuzzInput, other: FuzzInput, mix: Mix): FuzzInput {
  let result = input;
  for (let n = 1 << random.below(4); n > 0; n--) result = mutateOnce(random, result, other, mix);
  return result;
}

function mutateOnce(random: Random, input: FuzzInput, other: FuzzInput, mix: Mix): FuzzInput {
  const { ops } = input;
  const at = ops.length === 0 ? 0 : random.below(ops.length);
  switch (random.below(8)) {
    case 0:
      return {
        ...input,
        ops: [...ops.slice(0, at), generateOp(random, mix), ...ops.slice(at)].slice(0, MAX_OPS),
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
      return op === undefined ? input : { ...input, ops: ops.with(at, mutateOp(random, op, mix)) };
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

function generateOp(random: Random, mix: Mix): Op {
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
      return generateExit(random, mix);
  }
}

function generateExit(random: Random, mix: Mix): ExitOp {
  const basic = pick(random, mix === 'measured' ? MEASURED : REASONS);
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

function mutateOp(random: Random, op: Op, mix: Mix): Op {
  if (op.kind !== 'exit') return generateOp(random, mix);
  const fresh = generateExit(random, mix);
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
