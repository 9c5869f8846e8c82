/**
 * The smallest input that still shows a finding.
 *
 * Source: delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input"), with the grammar's own
 * simplifications of an exit after it.
 * Invariant: what is returned shows the finding; every single removal or simplification that is left would lose it.
 */
import type { ExitOp, FuzzInput, Op } from '../stage/input.js';

/** Whether an input shows the finding. */
export type Shows = (input: FuzzInput) => boolean;

/** Removes ops, then simplifies those that are left, until nothing more can go. */
export function minimise(input: FuzzInput, shows: Shows): FuzzInput {
  let best = input;
  for (;;) {
    const smaller = firstThat(shows, candidates(best));
    if (smaller === undefined) return best;
    best = smaller;
  }
}

function* candidates(input: FuzzInput): Generator<FuzzInput> {
  const { ops } = input;
  for (let size = ops.length >>> 1; size > 0; size >>>= 1) {
    for (let at = 0; at + size <= ops.length; at += size) {
      yield { ...input, ops: ops.toSpliced(at, size) };
    }
  }
  for (const [at, op] of ops.entries()) {
    for (const simpler of simplerOps(op)) yield { ...input, ops: ops.with(at, simpler) };
  }
}

function* simplerOps(op: Op): Generator<Op> {
  if (op.kind === 'time' && op.exponent > 0) yield { ...op, exponent: op.exponent - 1 };
  if (op.kind !== 'exit') return;
  for (const field of OPTIONAL) {
    if (op[field] === undefined) continue;
    yield Object.fromEntries(
      Object.entries(op).filter(([name]) => name !== field),
    ) as unknown as ExitOp;
  }
  for (const [field, plain] of PLAIN) if (op[field] !== plain) yield { ...op, [field]: plain };
  if (op.registers !== undefined) yield* simplerRegisters(op, op.registers);
}

const OPTIONAL = [
  'qualification',
  'interruption',
  'vectoring',
  'registers',
  'rip',
  'guestPhysicalAddress',
] as const satisfies readonly (keyof ExitOp)[];

const PLAIN = [
  ['modifiers', 0],
  ['interruptibility', 0],
  ['mode', 2],
  ['instructionLength', 1],
] as const;

function* simplerRegisters(op: ExitOp, values: readonly [bigint, bigint, bigint]): Generator<Op> {
  for (let at = 0; at < values.length; at++) {
    if (values[at] === 0n) continue;
    yield { ...op, registers: values.with(at, 0n) as unknown as [bigint, bigint, bigint] };
  }
}

function firstThat(shows: Shows, from: Iterable<FuzzInput>): FuzzInput | undefined {
  for (const one of from) if (shows(one)) return one;
  return undefined;
}
