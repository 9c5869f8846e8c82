/**
 * Where the engine, Unicorn behind the root-mode models, or the second machine differs from the SDM in an instruction.
 *
 * Source: each row names the SDM's rule; Unicorn 2.0.1 and 2.1.4, Bochs 2.7.
 * Invariant: a row explains the values that it names and no other; the README lists those whose `engine` is the culprit.
 */
import { ENFORCEMENT_DIFFERENCES } from './known-enforcement-differences.js';
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

/** Whether two dumps differ in one byte only. */
function differsInByte(
  { what, model, second }: InstructionDifference,
  dump: string,
  byte: number,
): boolean {
  const without = (bytes: string): string => bytes.slice(0, 2 * byte) + bytes.slice(2 * byte + 2);
  return what === dump && without(model) === without(second);
}

export const KNOWN_INSTRUCTION_DIFFERENCES: readonly KnownInstructionDifference[] = [
  {
    id: 'unmodelled-instruction',
    culprit: 'engine',
    sdm: 'call gates, 16-bit far pointers, LLDT of an LDT, SYSRET, ADCX, ADOX, transfers to compatibility mode, RFLAGS.TF, the legacy treatment of indirect branch tracking and undefined opcodes but UD0, UD1 and UD2 have effects or raise exceptions',
    instead: 'the run stops before the instruction',
    detection: 'the stop reason is `unmodelled` and names the instruction and its address',
    explains: (_sequence, differences) => endsUnmodelled(differences),
  },
  {
    id: 'resume-flag-of-double-faults',
    culprit: 'bochs',
    sdm: '#DF is an abort: the RF that it saves is the one in RFLAGS when its handler is called',
    instead: 'RF is set when the first fault is met, and #DF saves it',
    detection: 'the model follows the SDM, and a handler of #DF cannot return',
    explains: (_sequence, differences) =>
      differences.length === 1 && differsInByte(differences[0]!, 'interrupt stack', 42),
  },
  {
    id: 'frame-before-its-target-is-checked',
    culprit: 'bochs',
    sdm: 'a gate or a far CALL with a non-canonical offset is refused before anything is pushed',
    instead: 'the frame is written below RSP, and RSP is restored',
    detection: 'the model follows the SDM; what lies below RSP means nothing',
    explains: ({ title }, differences) =>
      /(int|call far) to a non-canonical address$/.test(title) &&
      differences.length === 1 &&
      differences[0]!.what === 'stack',
  },
  ...ENFORCEMENT_DIFFERENCES,
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
