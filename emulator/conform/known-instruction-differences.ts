/**
 * Where the engine, Unicorn behind the root-mode models, or the second machine differs from the SDM in an instruction.
 *
 * Source: each row names the SDM's rule; Unicorn 2.0.1 and 2.1.4, Bochs 2.7.
 * Invariant: a row explains the values that it names and no other; the README lists those whose `engine` is the culprit.
 */
import { VECTOR } from '../../abi/interruption.js';
import { PROBES } from './fragments.js';
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
  /** `vector` is that of the handler in which the model ends. */
  readonly explains: (
    sequence: Sequence,
    differences: readonly InstructionDifference[],
    vector: number | null,
  ) => boolean;
}

/** What ends a run, by the title of its sequence: anything else that does is a difference. */
const UNMODELLED: ReadonlySet<string> = new Set([
  ...PROBES.map(({ name }) => name),
  'jmp rax under the legacy bitmap',
  'jmp rax under suppression',
]);

const endsUnmodelled = (differences: readonly InstructionDifference[]): boolean =>
  differences[0]?.what === 'end' && differences[0].model.startsWith('unmodelled');

/** The byte of the dumped interrupt stack that holds RF, when an error code was pushed. */
const RF_BYTE = 42;
const RF = 0x01;

/** Whether RF, and nothing else, was pushed by the second machine alone. */
function pushesResumeFlag({ what, model, second }: InstructionDifference): boolean {
  const at = 2 * RF_BYTE;
  const byte = (bytes: string): number => parseInt(bytes.slice(at, at + 2), 16);
  const without = (bytes: string): string => bytes.slice(0, at) + bytes.slice(at + 2);
  return (
    what === 'interrupt stack' &&
    without(model) === without(second) &&
    (byte(model) | RF) === byte(second) &&
    byte(model) !== byte(second)
  );
}

export const KNOWN_INSTRUCTION_DIFFERENCES: readonly KnownInstructionDifference[] = [
  {
    id: 'unmodelled-instruction',
    culprit: 'engine',
    sdm: 'call gates, 16-bit far pointers, LLDT of an LDT, SYSRET, ADCX, ADOX, transfers to compatibility mode, RFLAGS.TF, the legacy treatment of indirect branch tracking and undefined opcodes but UD0, UD1 and UD2 have effects or raise exceptions',
    instead: 'the run stops before the instruction',
    detection: 'the stop reason is `unmodelled` and names the instruction and its address',
    explains: ({ title }, differences) =>
      UNMODELLED.has(title.replace(/, S_CET 0x[0-9a-f]+$/, '')) && endsUnmodelled(differences),
  },
  {
    id: 'resume-flag-of-double-faults',
    culprit: 'bochs',
    sdm: '#DF is an abort: the RF that it saves is the one in RFLAGS when its handler is called',
    instead: 'RF is set when the first fault is met, and #DF saves it',
    detection: 'the model follows the SDM, and a handler of #DF cannot return',
    explains: (_sequence, differences, vector) =>
      vector === VECTOR.DF && differences.length === 1 && pushesResumeFlag(differences[0]!),
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
  vector: number | null,
): KnownInstructionDifference | null {
  return (
    KNOWN_INSTRUCTION_DIFFERENCES.find(({ explains }) => explains(sequence, differences, vector)) ??
    null
  );
}
