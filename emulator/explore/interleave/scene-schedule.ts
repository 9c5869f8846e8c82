/**
 * A schedule of several actors: who acts, and in which order their steps come; as data and as a short string.
 *
 *     detached:HLT+flip@0:a20c9            detached-tso:VMCALL+flip@0:a12c8Aa
 *     state   actors      steps: so many of an actor's, before all go on in the usual order
 *
 * a and b are the vCPUs, c and what follows the hosts in their order, A and B the vCPUs' store buffers, of which one step
 * makes the oldest store visible. The usual order: whoever acted last goes on until it waits, then the first that can act.
 * Invariant: parse(format(x)) is x; a string that is none is refused with the part and the rule.
 */
import { didYouMean } from '../../../abi/did-you-mean.js';
import { ExploreError } from '../explore-error.js';
import { actorsName, castNamed, CAST_EXITS, CAST_STATES, type Cast } from './casts.js';
import { HOST_SCRIPTS } from './host-actors.js';

export interface SceneSchedule {
  readonly cast: Cast;
  /** Stores wait in store buffers. */
  readonly isTso: boolean;
  /** Processes of the scene by their numbers, in the order of their steps. */
  readonly steps: readonly number[];
}

const TSO = '-tso';
const VCPUS = 2;

/** Whether a text looks like a schedule of several actors rather than like one of events. */
export const isSceneSchedule = (text: string): boolean =>
  /^[a-z-]+:[A-Za-z0-9@-]+(\+[A-Za-z0-9@-]+)+:[A-Za-z0-9]*$/.test(text);

/** The short string. */
export function formatSceneSchedule({ cast, isTso, steps }: SceneSchedule): string {
  const runs: { letter: string; count: number }[] = [];
  for (const step of steps) {
    const letter = letterOf(cast, step);
    const last = runs.at(-1);
    if (last?.letter === letter) last.count++;
    else runs.push({ letter, count: 1 });
  }
  const text = runs.map(({ letter, count }) => `${letter}${count === 1 ? '' : count}`).join('');
  return `${cast.state.name}${isTso ? TSO : ''}:${actorsName(cast)}:${text}`;
}

/** @throws ExploreError SCHEDULE_INVALID. */
export function parseSceneSchedule(text: string): SceneSchedule {
  const [head, actors, order] = text.split(':');
  if (head === undefined || actors === undefined || order === undefined)
    throw refusal(text, 'schedule', 'is STATE:ACTORS:STEPS');
  const isTso = head.endsWith(TSO);
  const stateName = isTso ? head.slice(0, -TSO.length) : head;
  const state = CAST_STATES.find(({ name }) => name === stateName);
  if (state === undefined) {
    const known = CAST_STATES.map(({ name }) => name);
    throw refusal(text, 'state', `"${stateName}" is not known${didYouMean(stateName, known)}`);
  }
  const cast = castNamed(state, actors);
  if (cast === null) {
    const exits = CAST_EXITS.map(({ name }) => name).join(', ');
    const hosts = HOST_SCRIPTS.map(({ name }) => name).join(', ');
    throw refusal(
      text,
      'actors',
      `are one or two of ${exits}, then any of ${hosts}, each with the vCPU behind @`,
    );
  }
  const steps = [...order.matchAll(/([a-zA-Z])(\d*)/g)].flatMap(([, letter, count]) => {
    const process = processOf(cast, letter!);
    if (process === null) throw refusal(text, 'steps', `"${letter!}" is no actor of these`);
    const times = count === '' ? 1 : Number.parseInt(count!, 10);
    if (times > MOST_STEPS) throw refusal(text, 'steps', `are at most ${MOST_STEPS} of an actor's`);
    return Array.from({ length: times }, () => process);
  });
  if (/^\d/.test(order)) throw refusal(text, 'steps', 'begin with an actor');
  return { cast, isTso, steps };
}

const MOST_STEPS = 10_000;
const LETTERS = 'abcdefghijklmnopqrstuvwxyz';

function letterOf({ hosts }: Cast, process: number): string {
  const buffer = process - VCPUS - hosts.length;
  return buffer < 0 ? LETTERS[process]! : LETTERS[buffer]!.toUpperCase();
}

function processOf({ hosts }: Cast, letter: string): number | null {
  const at = LETTERS.indexOf(letter.toLowerCase());
  if (letter === letter.toLowerCase()) return at < VCPUS + hosts.length ? at : null;
  return at < VCPUS ? VCPUS + hosts.length + at : null;
}

const refusal = (text: string, field: string, rule: string): ExploreError =>
  new ExploreError('SCHEDULE_INVALID', `schedule ${text}: ${field} ${rule}`, { field, rule });
