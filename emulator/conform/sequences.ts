/**
 * Sequences of instructions to run on both machines.
 *
 * Invariant: a sequence ends with HLT; what is known to end unmodelled is in no mixture.
 */
import { hex } from '../../abi/uint.js';
import type { Random } from '../clock/random.js';
import { SHADOW } from './enforcement-area.js';
import { ENFORCED } from './enforcement-fragments.js';
import { SYSTEM_SEQUENCES } from './system-fragments.js';
import { COMPARE_RAX_RBX, FAULTS, FRAGMENTS, PROBES } from './fragments.js';

/** General registers at the start; RDI, RSI and RSP are given. */
export type StartValues = readonly bigint[];

/** A sequence to run on both machines. */
export interface Sequence {
  readonly title: string;
  readonly code: Uint8Array;
  readonly undefinedFlags: bigint;
  /** Values of RAX, RCX, RDX, RBX, RBP, R8 to R15. */
  readonly start: StartValues;
  readonly seed: number;
  /** IA32_S_CET, null where CR4.CET is off; and SSP. */
  readonly cet: bigint | null;
  readonly ssp: bigint;
}

// prettier-ignore
const CORNERS: readonly bigint[] = [
  0n, 1n, 0x7fn, 0x80n, 0xffn, 0x7fffn, 0x8000n, 0xffffn, 0x7fff_ffffn, 0x8000_0000n, 0xffff_ffffn,
  0x7fff_ffff_ffff_ffffn, 0x8000_0000_0000_0000n, 0xffff_ffff_ffff_ffffn, 0x0123_4567_89ab_cdefn,
];

function startValues(random: Random): StartValues {
  return Array.from({ length: 13 }, () =>
    random.below(2) === 0 ? CORNERS[random.below(CORNERS.length)]! : random.nextU64(),
  );
}

const bytesOf = (code: string): number[] => code.split(' ').map((byte) => parseInt(byte, 16));
const HLT = 0xf4;

type Enforcement = Pick<Sequence, 'cet' | 'ssp'>;
const UNENFORCED: Enforcement = { cet: null, ssp: 0n };
/** Supervisor shadow stacks, with WRSS. */
export const ON_SHADOW_STACKS: Enforcement = { cet: 3n, ssp: SHADOW.TOP };

/** Each fragment under control-flow enforcement. */
export function enforcedSequences(random: Random): Sequence[] {
  return ENFORCED.map(({ name, code, cet, ssp }) => ({
    title: `${name}, S_CET ${hex(cet)}`,
    code: Uint8Array.from([...bytesOf(code), HLT]),
    undefinedFlags: 0n,
    start: startValues(random),
    seed: random.nextU32(),
    cet,
    ssp,
  }));
}

/** Each fragment, fault and probe on its own, `times` times with different registers. */
export function systematicSequences(times: number, random: Random): Sequence[] {
  return [...FRAGMENTS, ...FAULTS, ...PROBES, ...SYSTEM_SEQUENCES].flatMap(
    ({ name, code, undefinedFlags }) =>
      Array.from({ length: times }, () => ({
        title: name,
        code: Uint8Array.from([...bytesOf(code), HLT]),
        undefinedFlags: undefinedFlags ?? 0n,
        start: startValues(random),
        seed: random.nextU32(),
        ...UNENFORCED,
      })),
  );
}

/** Random sequences of up to `length` fragments, one in four ended by a fault. */
export function randomSequences(
  count: number,
  length: number,
  random: Random,
  enforcement: Enforcement = UNENFORCED,
): Sequence[] {
  return Array.from({ length: count }, () => {
    const fragments = Array.from(
      { length: 2 + random.below(length - 1) },
      () => FRAGMENTS[random.below(FRAGMENTS.length)]!,
    );
    const last = random.below(4) === 0 ? FAULTS[random.below(FAULTS.length)]! : null;
    // What leaves flags undefined is followed by a CMP, so that they cannot spread.
    const code = fragments.flatMap((one) => [
      ...bytesOf(one.code),
      ...((one.undefinedFlags ?? 0n) === 0n ? [] : bytesOf(COMPARE_RAX_RBX)),
    ]);
    const all = last === null ? fragments : [...fragments, last];
    return {
      title: all.map(({ name }) => name).join('; '),
      code: Uint8Array.from([...code, ...(last === null ? [] : bytesOf(last.code)), HLT]),
      undefinedFlags: last?.undefinedFlags ?? 0n,
      start: startValues(random),
      seed: random.nextU32(),
      ...enforcement,
    };
  });
}
