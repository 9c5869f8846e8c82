/**
 * The events that a debugger catches, by the words that all faces have for them.
 *
 * Source: Linux for exit reasons, the SDM for VMCS fields, the RFC for the phases of a live update.
 * Invariant: what is not a word of the list is refused with the one that is near.
 */
import { didYouMean } from '../../abi/did-you-mean.js';
import { HarnessError } from '../../abi/errors.js';
import { EXIT_REASON, printExitReason } from '../../abi/exit-reasons.js';
import { VMCS_ENCODING, VMCS_FIELDS, type FieldName } from '../../abi/vmcs-fields.js';
import type { PhaseName } from '../machine/timeline.js';
import type { BreakpointSpec } from './breakpoints.js';

export type EventErrorCode = 'NO_SUCH_EVENT';
/** A word that names no event. */
export class EventError extends HarnessError<EventErrorCode> {}

/** Kinds of events that stop the run. */
export const EVENTS = ['exit', 'vmread', 'vmwrite', 'flip', 'phase'] as const;
export type EventKind = (typeof EVENTS)[number];

/** The step of the host that a phase begins with. */
const STEP_OF: Readonly<Record<PhaseName, string>> = {
  detached: 'preserve',
  'no-kernel': 'kexec',
  'next-kernel': 'next-kernel',
  attached: 'retrieve',
};
const FLIPS = ['attached', 'detached'] as const;

/** The phases, as they are caught and told. */
export const PHASES: readonly string[] = Object.values(STEP_OF);
/** A phase in the words of PHASES. */
export const phaseText = (phase: PhaseName): string => STEP_OF[phase];

/** Words that may follow a kind. */
export function namesOf(kind: EventKind): readonly string[] {
  switch (kind) {
    case 'exit':
      return Object.values(EXIT_REASON).map((basic) => printExitReason(basic));
    case 'vmread':
    case 'vmwrite':
      return VMCS_FIELDS.map(({ name }) => name);
    case 'flip':
      return FLIPS;
    case 'phase':
      return PHASES;
  }
}

/** What stops at an event: of one name, or of any. @throws EventError. */
export function eventSpec(kind: EventKind, name: string | null): BreakpointSpec {
  switch (kind) {
    case 'exit':
      return { kind, reason: name === null ? null : exitReasonNamed(name) };
    case 'vmread':
    case 'vmwrite':
      return { kind, field: name === null ? null : fieldNamed(name) };
    case 'flip': {
      const to = FLIPS.find((one) => one === name?.toLowerCase()) ?? null;
      return to === null && name !== null ? refuse('flip', name, FLIPS) : { kind, to };
    }
    case 'phase': {
      const phases = Object.keys(STEP_OF) as PhaseName[];
      const phase = phases.find((one) => STEP_OF[one] === name?.toLowerCase()) ?? null;
      return phase === null && name !== null ? refuse('phase', name, PHASES) : { kind, phase };
    }
  }
}

/** The number of an exit reason by its printed name, its full name or its number. @throws EventError. */
export function exitReasonNamed(name: string): number {
  const wanted = name.toUpperCase().replace(/^EXIT_REASON_/, '');
  const found = Object.entries(EXIT_REASON).find(([known]) => known === `EXIT_REASON_${wanted}`);
  if (found !== undefined) return found[1];
  if (/^\d+$/.test(name)) return Number.parseInt(name, 10);
  return refuse('exit reason', name, namesOf('exit'));
}

/** A VMCS field by its name or its encoding. @throws EventError. */
export function fieldNamed(name: string): FieldName {
  const wanted = name.toUpperCase();
  const encoding = /^0x[0-9a-f]+$/i.test(name) ? Number.parseInt(name, 16) : null;
  const found = VMCS_FIELDS.find(
    (field) => field.name === wanted || VMCS_ENCODING[field.name] === encoding,
  );
  return found?.name ?? refuse('VMCS field', name, namesOf('vmread'));
}

function refuse(what: string, name: string, known: readonly string[]): never {
  const near = didYouMean(
    name.toUpperCase(),
    known.map((one) => one.toUpperCase()),
  );
  const list = known.length > 8 ? near : `: there are ${known.join(', ')}`;
  throw new EventError('NO_SUCH_EVENT', `no ${what} is named "${name}"${list}`);
}
