/**
 * A finding as a short story: what the guest and the host did, what the payload did, and what it should have done.
 *
 * Source: DESIGN ("Invariants") for what should have been.
 * Invariant: one line an op, in the order in which they were done.
 */
import { printExitReason } from '../../abi/exit-reasons.js';
import { unreachable } from '../../abi/errors.js';
import { hex } from '../../abi/uint.js';
import type { GuestExit } from '../guest/guest.js';
import type { ExitOp, FuzzInput, Op } from '../stage/input.js';
import { legalExit } from '../stage/legal.js';

/** What a story tells of. */
export interface StoryParts {
  readonly input: FuzzInput;
  /** The state that it begins in. */
  readonly base: string;
  /** What the invariant says. */
  readonly message: string;
  /** Completes "holds when ...", or null when nothing broke. */
  readonly holdsWhen: string | null;
  /** Symbol and source line of the instruction, or null. */
  readonly where: string | null;
}

/** The story, a line each. */
export function storyOf({ input, base, message, holdsWhen, where }: StoryParts): readonly string[] {
  return [
    `begins: ${base}`,
    ...input.ops.map((op, index) => `${index + 1}. ${sentenceOf(op)}`),
    `then: ${message}`,
    ...(where === null ? [] : [`at: ${where}`]),
    ...(holdsWhen === null ? [] : [`should be: ${holdsWhen}`]),
  ];
}

function sentenceOf(op: Op): string {
  switch (op.kind) {
    case 'exit':
      return `the guest exits: ${exitWords(op)}`;
    case 'interrupt':
      return `interrupt ${hex(op.vector)} arrives at the core`;
    case 'nmi':
      return 'an NMI arrives at the core';
    case 'machine-check':
      return `a machine check, ${(op.status & 1) === 0 ? 'not restartable' : 'restartable'}`;
    case 'time':
      return `the guest runs for ${op.mantissa * 2 ** op.exponent} ticks`;
    case 'flip':
      return op.attached ? 'KVM comes back: KVM_ATTACHED' : 'KVM leaves: KVM_DETACHED';
    case 'stop':
      return 'KVM asks the payload to stop';
    case 'configure':
      return `KVM changes the shared configuration (${op.what}, ${op.index}, ${op.value})`;
    default:
      return unreachable(op);
  }
}

function exitWords(op: ExitOp): string {
  const exit = legalExit(op);
  const words = [printExitReason(exit.basic)];
  if (exit.reasonBits !== undefined && exit.reasonBits !== 0)
    words.push(`with ${hex(exit.reasonBits)}`);
  const { registers, fields } = exit;
  for (const [name, value] of Object.entries(registers ?? {})) words.push(`${name}=${hex(value)}`);
  for (const [name, value] of Object.entries(fields ?? {}))
    if (value !== undefined && value !== USUAL[name]) words.push(`${name}=${hex(value)}`);
  if (exit.qualification !== undefined && exit.qualification !== 0n)
    words.push(`qualification ${hex(exit.qualification)}`);
  if (exit.interruptionInfo !== undefined)
    words.push(`interruption ${hex(exit.interruptionInfo)}${codeOf(exit)}`);
  if (exit.idtVectoringInfo !== undefined)
    words.push(`while delivering ${hex(exit.idtVectoringInfo)}`);
  return words.join(' ');
}

/** Guest state that is not worth a word. */
const USUAL: Readonly<Record<string, bigint>> = {
  GUEST_RFLAGS: 0x202n,
  GUEST_INTERRUPTIBILITY_INFO: 0n,
  GUEST_ACTIVITY_STATE: 0n,
  GUEST_CS_AR_BYTES: 0xa09bn,
  GUEST_PENDING_DBG_EXCEPTIONS: 0n,
};

const codeOf = ({ interruptionErrorCode }: GuestExit): string =>
  interruptionErrorCode === undefined || interruptionErrorCode === 0
    ? ''
    : ` error code ${hex(interruptionErrorCode)}`;
