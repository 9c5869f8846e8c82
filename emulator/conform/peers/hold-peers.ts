/**
 * Executes the peers' cases: on the model as KVM sees a processor, and on both machines with the second one's processor.
 *
 * Invariant: a row is held when every attempt of it ends on the model as the peer says, and the two machines differ in none
 * of them; it is known when they differ by a known difference alone, so that the model stands there without its witness.
 * What the second machine does not offer is judged on the model alone.
 */
import { DEFAULT_CAPABILITIES } from '../../vmx/capabilities.js';
import { baseVmcs } from '../base-vmcs.js';
import {
  bucketOf,
  holdAgainst,
  outcomeOfRule,
  trySecond,
  type Attempt,
  type AttemptResult,
} from '../entry-rows.js';
import type { CaseResult } from '../case-result.js';
import type { SecondMachine } from '../second-machine.js';
import { LIVEUPDATE_ROWS } from './liveupdate.js';
import { CONTROL_ROWS } from './kvm-unit-tests-controls.js';
import { EXIT_ROWS } from './kvm-unit-tests-exits.js';
import { GUEST_ROWS } from './kvm-unit-tests-guest.js';
import { HOST_ROWS } from './kvm-unit-tests-host.js';
import { VMX_INSTRUCTION_ROWS } from './kvm-unit-tests-instructions.js';
import type { PeerAttempt, PeerRow } from './peer-row.js';

/** Every case of the peers', by list. */
export const PEER_LISTS = {
  instructions: VMX_INSTRUCTION_ROWS,
  controls: CONTROL_ROWS,
  hostState: HOST_ROWS,
  guestState: GUEST_ROWS,
  exits: EXIT_ROWS,
  liveupdate: LIVEUPDATE_ROWS,
} as const satisfies Readonly<Record<string, readonly PeerRow[]>>;

/** The name of a list. */
export type PeerList = keyof typeof PEER_LISTS;

/** How a list came out. */
export interface PeerTally {
  rows: number;
  held: number;
  /** Rows that the model holds, and that the second machine ends otherwise by a known difference. */
  known: number;
  /** Rows whose subject is not there; each says why. */
  notOffered: number;
  /** VM entries that the rows are made of. */
  attempts: number;
}

/** A row that is not held although something holds it. */
export interface PeerFailure {
  readonly list: PeerList;
  readonly row: PeerRow;
  readonly what: string;
  readonly model: string;
  readonly peer: string;
}

/** What all lists came to. */
export interface PeerReport {
  readonly tallies: Readonly<Record<PeerList, PeerTally>>;
  readonly failures: readonly PeerFailure[];
  /** Attempts that the two machines end differently for a known reason. */
  readonly known: readonly AttemptResult[];
}

/** Executes every row; without a second machine on the model alone; `cases` are our own, by title. */
export function holdPeers(
  machine: SecondMachine | null,
  cases: readonly CaseResult[],
  lists: Readonly<Partial<Record<PeerList, readonly PeerRow[]>>> = PEER_LISTS,
): PeerReport {
  const failures: PeerFailure[] = [];
  const known: AttemptResult[] = [];
  const named = Object.entries(lists) as [PeerList, readonly PeerRow[]][];
  const rows = named.flatMap(([, of]) => of);
  const second = machine === null ? null : trySecondOf(machine, rows);
  const tallies = named.map(([list, of]) => {
    const tally: PeerTally = { rows: of.length, held: 0, known: 0, notOffered: 0, attempts: 0 };
    for (const row of of) {
      if (row.holder.kind === 'not-offered') {
        tally.notOffered++;
        continue;
      }
      const found = hold(row, cases);
      const tried = second?.get(row) ?? [];
      const explained = tried.filter(({ result }) => bucketOf(result) === 'known');
      known.push(...explained.map(({ result }) => result));
      for (const one of tried) {
        if (bucketOf(one.result) === 'differs') found.failures.push(secondFailure(one));
      }
      tally.attempts += found.attempts;
      if (found.failures.length === 0) {
        tally[explained.length > 0 || isTouched(row, cases) ? 'known' : 'held']++;
      }
      failures.push(...found.failures.map((one) => ({ list, row, ...one })));
    }
    return [list, tally] as const;
  });
  return { tallies: Object.fromEntries(tallies) as Record<PeerList, PeerTally>, failures, known };
}

type Failure = Pick<PeerFailure, 'what' | 'model' | 'peer'>;

function hold(
  { holder }: PeerRow,
  cases: readonly CaseResult[],
): { attempts: number; failures: Failure[] } {
  switch (holder.kind) {
    case 'not-offered':
      return { attempts: 0, failures: [] };
    case 'cases':
      return { attempts: 0, failures: holder.titles.flatMap((title) => caseFailure(title, cases)) };
    case 'run':
      return { attempts: 0, failures: runFailure(holder.run) };
    case 'entry': {
      const ours = holder.attempts(baseVmcs(DEFAULT_CAPABILITIES), DEFAULT_CAPABILITIES);
      return { attempts: ours.length, failures: ours.flatMap((attempt) => modelFailure(attempt)) };
    }
  }
}

function attemptOf({ overrides, memory = [], how }: PeerAttempt): Attempt {
  return { title: '', overrides, memory, ...(how === undefined ? {} : { how }) };
}

/** How the model ends what the peer tries on a processor that offers everything. */
function modelFailure(attempt: PeerAttempt): Failure[] {
  const { overrides, refusedBy, ends } = attempt;
  const { model, broken } = holdAgainst(DEFAULT_CAPABILITIES, attemptOf(attempt), '');
  const what = describe(attempt);
  if (ends !== undefined) return model === ends ? [] : [{ what, model, peer: ends }];
  const [first] = broken;
  const expected = outcomeOfRule(first);
  if (model !== expected) return [{ what, model, peer: expected }];
  // A guest state that is broken on purpose keeps legal controls from running a guest.
  const isPurpose = overrides.GUEST_RFLAGS === 0n && first?.group === 'guest-state';
  const ours = first === undefined || isPurpose ? 'accepted' : first.rule;
  const peer = refusedBy ?? 'accepted';
  return ours === peer ? [] : [{ what, model: ours, peer }];
}

/** An attempt on both machines. */
interface SecondResult {
  readonly attempt: PeerAttempt;
  readonly result: AttemptResult;
}

/** The attempts of all rows with the second machine's processor: a few boots for thousands of them. */
function trySecondOf(
  machine: SecondMachine,
  rows: readonly PeerRow[],
): ReadonlyMap<PeerRow, readonly SecondResult[]> {
  const { capabilities } = machine;
  const tried = rows.flatMap((row) =>
    row.holder.kind === 'entry'
      ? row.holder
          .attempts(baseVmcs(capabilities), capabilities)
          .map((attempt) => ({ row, attempt }))
      : [],
  );
  const second = trySecond(
    machine,
    tried.map(({ attempt }) => attemptOf(attempt)),
  );
  const results = new Map<PeerRow, SecondResult[]>();
  tried.forEach(({ row, attempt }, i) => {
    const result = holdAgainst(capabilities, attemptOf(attempt), second[i]!);
    results.set(row, [...(results.get(row) ?? []), { attempt, result }]);
  });
  return results;
}

function secondFailure({ attempt, result: { model, second } }: SecondResult): Failure {
  return { what: `${describe(attempt)} on the second machine`, model, peer: second };
}

function caseFailure(title: string, cases: readonly CaseResult[]): Failure[] {
  const found = cases.find((one) => one.title === title);
  if (found === undefined) return [{ what: title, model: 'no such case', peer: 'held' }];
  const bad = found.differences.filter(({ known }) => known === null);
  return bad.map(({ what, model, second }) => ({ what: `${title}: ${what}`, model, peer: second }));
}

/** Whether a known difference shows in one of our cases that hold a row. */
function isTouched({ holder }: PeerRow, cases: readonly CaseResult[]): boolean {
  if (holder.kind !== 'cases') return false;
  return cases.some(
    ({ title, differences }) =>
      holder.titles.includes(title) && differences.some(({ known }) => known !== null),
  );
}

function runFailure(run: () => void): Failure[] {
  try {
    run();
    return [];
  } catch (error) {
    const model = error instanceof Error ? error.message : String(error);
    return [{ what: 'run here', model, peer: 'held' }];
  }
}

function describe({ overrides }: PeerAttempt): string {
  return Object.entries(overrides)
    .map(([field, value]) => `${field}=0x${value.toString(16)}`)
    .join(' ');
}
