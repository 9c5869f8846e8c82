/**
 * A schedule: an exit in a state, and what happens at which of its instructions; as data and as a short string.
 *
 *     detached:VMCALL:nmi@57,flip@81
 *     state   reason  event@instruction, counted from HOST_RIP
 *
 * A reason whose handler has several ways names one behind a dot: `MSR_WRITE.past-deadline`.
 * Invariant: parseSchedule(formatSchedule(x)) is x; a string that is none is refused with the part and the rule.
 */
import { didYouMean } from '../../abi/did-you-mean.js';
import { CASES, type ExploreCase } from './cases.js';
import { eventNamed, EVENTS, type ExploreEvent } from './events.js';
import { ExploreError } from './explore-error.js';
import { STATES, type ExploreState } from './states.js';

/** One event at one instruction. */
export interface Happening {
  readonly event: ExploreEvent;
  /** Instructions executed since HOST_RIP. */
  readonly instruction: number;
}

export interface Schedule {
  readonly state: ExploreState;
  readonly exit: ExploreCase;
  /** In the order in which they come. */
  readonly happenings: readonly Happening[];
}

/** The name of a case in a schedule. */
export const caseName = ({ reason, way }: ExploreCase): string =>
  (way === '' ? reason : `${reason}.${way}`).replaceAll(' ', '-');

/** The short string. */
export function formatSchedule({ state, exit, happenings }: Schedule): string {
  const events = happenings.map(({ event, instruction }) => `${event.name}@${instruction}`);
  return `${state.name}:${caseName(exit)}:${events.join(',')}`;
}

/** Whether a text looks like a schedule rather than like the name of a file. */
export const isSchedule = (text: string): boolean => /^[a-z-]+:[A-Z0-9_a-z.-]+:\S*$/.test(text);

/** @throws ExploreError SCHEDULE_INVALID. */
export function parseSchedule(text: string): Schedule {
  const parts = text.split(':');
  if (parts.length !== 3) {
    throw refusal(text, 'schedule', 'is STATE:REASON:EVENT@INSTRUCTION[,EVENT@INSTRUCTION]');
  }
  const [stateName, exitName, events] = parts as [string, string, string];
  const state = named(text, 'state', stateName, STATES, ({ name }) => name);
  const exit = named(text, 'reason', exitName, CASES, caseName);
  const happenings = events === '' ? [] : events.split(',').map((part) => happening(text, part));
  for (const [index, { instruction }] of happenings.entries()) {
    const before = happenings[index - 1]?.instruction ?? 0;
    if (instruction < before) throw refusal(text, 'events', 'come in the order of instructions');
  }
  return { state, exit, happenings };
}

function happening(text: string, part: string): Happening {
  const [, name, count] = /^([a-z-]+)@(\d{1,7})$/.exec(part) ?? [];
  if (name === undefined || count === undefined)
    throw refusal(text, `"${part}"`, 'is no EVENT@INSTRUCTION');
  const event = eventNamed(name);
  if (event === undefined) {
    const known = EVENTS.map((one) => one.name);
    throw refusal(text, 'event', `"${name}" is not known${didYouMean(name, known)}`);
  }
  return { event, instruction: Number.parseInt(count, 10) };
}

function named<T>(
  text: string,
  what: string,
  name: string,
  from: readonly T[],
  nameOf: (one: T) => string,
): T {
  const found = from.find((one) => nameOf(one) === name);
  if (found !== undefined) return found;
  throw refusal(text, what, `"${name}" is not known${didYouMean(name, from.map(nameOf))}`);
}

const refusal = (text: string, field: string, rule: string): ExploreError =>
  new ExploreError('SCHEDULE_INVALID', `schedule ${text}: ${field} ${rule}`, { field, rule });
