/**
 * Where the engine, Unicorn behind the root-mode models, or the second machine differs from the SDM in an instruction.
 *
 * Source: each row names the SDM's rule; Unicorn 2.0.1 and 2.1.4, Bochs 2.7.
 * Invariant: a row explains the values that it names and no other; the README lists those whose `engine` is the culprit.
 */
import { RFLAGS } from '../cpu/registers.js';
import type { InstructionDifference } from './instructions.js';
import type { Sequence } from './sequences.js';

/** One known difference. */
export interface KnownInstructionDifference {
  readonly id: string;
  /** Which side departs from the SDM. */
  readonly culprit: 'engine' | 'bochs';
  readonly sdm: string;
  readonly instead: string;
  /** How a run that depends on it is noticed. */
  readonly detection: string;
  readonly explains: (sequence: Sequence, differences: readonly InstructionDifference[]) => boolean;
}

const endsUnmodelled = (differences: readonly InstructionDifference[]): boolean =>
  differences[0]?.what === 'end' && differences[0].model.startsWith('unmodelled');

export const KNOWN_INSTRUCTION_DIFFERENCES: readonly KnownInstructionDifference[] = [
  {
    id: 'unmodelled-instruction',
    culprit: 'engine',
    sdm: 'LAR, LSL, SYSRET, ADCX, ADOX, RFLAGS.TF and undefined opcodes but UD0, UD1 and UD2 have effects or raise #UD',
    instead: 'the run stops before the instruction',
    detection: 'the stop reason is `unmodelled` and names the instruction and its address',
    explains: (_sequence, differences) => endsUnmodelled(differences),
  },
  {
    id: 'branch-to-non-canonical',
    culprit: 'engine',
    sdm: 'a near CALL, RET or JMP to a non-canonical address raises #GP at the branch and changes nothing',
    instead: 'the branch is taken, its push or pop is done, and #GP is raised at the target',
    detection: 'RIP in the #GP frame is not canonical',
    explains: ({ title }) => /(call|ret|jmp) to a non-canonical address$/.test(title),
  },
  {
    id: 'flags-of-cmpxchg8b',
    culprit: 'engine',
    sdm: 'CMPXCHG8B and CMPXCHG16B change ZF and no other flag',
    instead:
      'ZF is right; the other flags are computed from stale operands, reserved bits included',
    detection:
      'RFLAGS differs from its copy in bits other than ZF; compilers test ZF alone behind it',
    explains: ({ title }, differences) =>
      /cmpxchg(8|16)b/.test(title) &&
      differences.every(
        ({ what, model, second }) =>
          what === 'RFLAGS' && ((BigInt(model) ^ BigInt(second)) & RFLAGS.ZF) === 0n,
      ),
  },
  {
    id: 'page-fault-of-read-modify-write',
    culprit: 'engine',
    sdm: 'a read-modify-write access is a write: its #PF has W/R = 1 in the error code',
    instead: 'the error code says read, for the engine reads first',
    detection:
      'none: a handler that decides by W/R is misled; a payload parks on any #PF of its own',
    explains: ({ title }, differences) =>
      /^(lock inc|add) on an unmapped page$/.test(title) &&
      differences.length === 1 &&
      differences[0]!.what === 'stack' &&
      differences[0]!.second.replace(/^((?:..){48})02/, (_, head: string) => `${head}00`) ===
        differences[0]!.model,
  },
  {
    id: 'lock-accepted',
    culprit: 'engine',
    sdm: 'LOCK before an instruction that does not take it raises #UD',
    instead: 'the prefix is ignored',
    detection: 'the loader refuses nothing here; a disassembly of the payload shows the prefix',
    explains: ({ title }) => /lock mov$/.test(title),
  },
];

/** The known difference that covers all that differs in a sequence, or null. */
export function knownInstructionDifference(
  sequence: Sequence,
  differences: readonly InstructionDifference[],
): KnownInstructionDifference | null {
  return (
    KNOWN_INSTRUCTION_DIFFERENCES.find(({ explains }) => explains(sequence, differences)) ?? null
  );
}
