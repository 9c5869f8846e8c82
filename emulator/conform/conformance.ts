/**
 * Everything that is held against the second machine, as one report.
 *
 * Source: CLI ("conform"): `exits`, `rows`, `instructions`, `differences`.
 * Invariant: each difference is in `differences`, known or not; `result` is "pass" when every one is known, and every known
 * one is there: what is listed and not met any more would hide the next difference that looks like it.
 */
import { Random } from '../clock/random.js';
import {
  bucketOf,
  compareEntries,
  rowAttempts,
  type AttemptResult,
  type Bucket,
} from './entry-rows.js';
import { valueAttempts } from './entry-values.js';
import { bitAttempts, mixedAttempts } from './entry-variants.js';
import { compareAborts } from './aborts.js';
import type { CaseResult } from './case-result.js';
import { compareExits, type ExitResult } from './exits.js';
import { compareSequences, type SequenceResult } from './instructions.js';
import { KNOWN_APIC_DIFFERENCES } from './known-apic-differences.js';
import { KNOWN_DIFFERENCES } from './known-differences.js';
import { KNOWN_EXIT_DIFFERENCES } from './known-exit-differences.js';
import { KNOWN_INSTRUCTION_DIFFERENCES } from './known-instruction-differences.js';
import { KNOWN_ABORT_DIFFERENCES, KNOWN_VMX_DIFFERENCES } from './known-vmx-differences.js';
import { APIC_CASES, randomApicCases } from './local-apic-cases.js';
import { compareLocalApic } from './local-apic.js';
import { MSR_CASES } from './msr-cases.js';
import { msrListAttempts } from './msr-list-attempts.js';
import { comparePayload, type PayloadResult } from './payload/payload.js';
import { holdPeers, type PeerReport, type PeerTally } from './peers/hold-peers.js';
import type { SecondMachine } from './second-machine.js';
import {
  ON_SHADOW_STACKS,
  enforcedSequences,
  randomSequences,
  systematicSequences,
} from './sequences.js';
import { compareVmxInstructions } from './vmx-instructions.js';

/** Something on which the machines do not agree. */
export interface ReportedDifference {
  readonly kind:
    'row' | 'exit' | 'abort' | 'instruction' | 'vmx-instruction' | 'apic' | 'payload' | 'peer';
  readonly title: string;
  readonly what: string;
  readonly model: string;
  readonly second: string;
  /** The id of the known difference that explains it. */
  readonly known: string | null;
}

/** How many were tried, and how they came out: each is in one bucket. */
export type Tally = Record<'tried' | Bucket, number>;

/** The same where nothing can be not offered. */
export type SmallTally = Record<'tried' | 'agree' | 'known', number>;

/** The payload's passages: what it executed and wrote, and how many of the values compared are equal. */
export interface PayloadTally {
  readonly cases: number;
  readonly exits: number;
  readonly instructions: number;
  readonly writes: number;
  readonly values: number;
  readonly agree: number;
  readonly known: number;
  /** Hosts on which this payload could not be compared, and why. */
  readonly leftOut: readonly string[];
  /** The first difference that nothing explains, with both machines side by side. */
  readonly context: readonly string[];
}

/** The report; the CLI prints it. */
export interface ConformanceReport {
  readonly result: 'pass' | 'fail';
  readonly machine: string;
  readonly seed: number;
  /** Guests that exited for real, and the values compared of them. */
  readonly exits: SmallTally & { values: number };
  /** The payload as the exit handler on both machines. */
  readonly payload: PayloadTally;
  /** Checks of VM entry, one bad VMCS a row. */
  readonly rows: Tally;
  /** The cases of kvm-unit-tests and of Linux's live update selftests, by list. */
  readonly peers: PeerReport['tallies'];
  /** VMCSs with values and single bits that no row names, and mixtures of rows. */
  readonly variants: Tally;
  /** VMX instructions of root operation. */
  readonly vmxInstructions: SmallTally;
  /** Lists of MSRs of VM exit, the VMX aborts in which they end among them. */
  readonly aborts: SmallTally;
  /** Accesses to MSRs, the local APIC’s among them, systematic and random. */
  readonly localApic: SmallTally;
  /** Instruction sequences. */
  readonly instructions: SmallTally;
  readonly boots: number;
  /** Ids of known differences that did not occur: the second machine has changed, or no case asks any more. */
  readonly unusedKnown: readonly string[];
  readonly differences: readonly ReportedDifference[];
}

/** What a caller decides: how much, and who is told of the progress. */
export interface ConformanceOptions {
  readonly seed: number;
  readonly onProgress: (text: string) => void;
  /** Asked between batches: whether to go on with more random ones. */
  readonly goesOn: () => boolean;
}

const MIXTURES = 200;
const APIC_CASES_DRAWN = 60;
const SEQUENCES = 150;
const ENFORCED_SEQUENCES = 60;
const LONGEST = 12;

/** Holds the models against a second machine. @throws ConformError */
export function conformance(
  machine: SecondMachine,
  payloadFile: Uint8Array,
  options: ConformanceOptions,
): ConformanceReport {
  const { seed, onProgress, goesOn } = options;
  const random = new Random(seed);
  const differences: ReportedDifference[] = [];
  const { capabilities } = machine;
  onProgress('the payload as the exit handler');
  const payload = payloadTally(comparePayload(machine, payloadFile), differences);
  onProgress('checks of VM entry');
  const attempts = [...rowAttempts(capabilities), ...msrListAttempts()];
  const rows = tally(compareEntries(machine, attempts), differences);
  onProgress('VM exits');
  const exitResults = compareExits(machine);
  const exits = exitTally(exitResults, differences);
  onProgress('VMX instructions');
  const vmxResults = compareVmxInstructions(machine);
  const aborts = caseTally('abort', compareAborts(machine), differences);
  const vmxInstructions = caseTally('vmx-instruction', vmxResults, differences);
  onProgress('MSRs and the local APIC');
  const accesses = [...MSR_CASES, ...APIC_CASES, ...randomApicCases(APIC_CASES_DRAWN, random)];
  const localApic = caseTally('apic', compareLocalApic(machine, accesses), differences);
  onProgress('the cases of kvm-unit-tests and of the live update selftests');
  const peers = peerTallies(holdPeers(machine, [...exitResults, ...vmxResults]), differences);
  onProgress('values and bits of the fields, and mixtures of checks');
  const changed = [
    ...valueAttempts(capabilities),
    ...bitAttempts(capabilities),
    ...mixedAttempts(capabilities, MIXTURES, random),
  ];
  const variants = tally(compareEntries(machine, changed), differences);
  onProgress('instructions');
  const instructions = sequenceTally(
    compareSequences(machine, [
      ...systematicSequences(1, random),
      ...randomSequences(SEQUENCES, LONGEST, random),
      ...enforcedSequences(random),
      ...randomSequences(ENFORCED_SEQUENCES, LONGEST, random, ON_SHADOW_STACKS),
    ]),
    differences,
  );
  while (goesOn()) {
    onProgress(`${instructions.tried} instruction sequences, ${variants.tried} VMCSs`);
    const mixtures = mixedAttempts(capabilities, MIXTURES, random);
    add(variants, tally(compareEntries(machine, mixtures), differences));
    const sequences = [
      ...randomSequences(3 * SEQUENCES, LONGEST, random),
      ...randomSequences(SEQUENCES, LONGEST, random, ON_SHADOW_STACKS),
    ];
    add(instructions, sequenceTally(compareSequences(machine, sequences), differences));
    const drawn = compareLocalApic(machine, randomApicCases(APIC_CASES_DRAWN, random));
    add(localApic, caseTally('apic', drawn, differences));
  }
  const unusedKnown = unusedOf(differences);
  const isExplained = differences.every(({ known }) => known !== null);
  return {
    result: isExplained && unusedKnown.length === 0 ? 'pass' : 'fail',
    machine: 'bochs',
    seed,
    payload,
    exits,
    vmxInstructions,
    aborts,
    localApic,
    rows,
    peers,
    variants,
    instructions,
    boots: machine.boots,
    unusedKnown,
    differences,
  };
}

/** The known differences that none of those found is. */
export function unusedOf(differences: readonly Pick<ReportedDifference, 'known'>[]): string[] {
  const seen = new Set(differences.map(({ known }) => known));
  const all = [
    ...KNOWN_DIFFERENCES,
    ...KNOWN_EXIT_DIFFERENCES,
    ...KNOWN_APIC_DIFFERENCES,
    ...KNOWN_INSTRUCTION_DIFFERENCES,
    ...KNOWN_VMX_DIFFERENCES,
    ...KNOWN_ABORT_DIFFERENCES,
  ];
  return all.map(({ id }) => id).filter((id) => !seen.has(id));
}

function add<T extends object>(to: T, more: T): void {
  for (const key of Object.keys(to) as (keyof T)[]) {
    to[key] = ((to[key] as number) + (more[key] as number)) as T[keyof T];
  }
}

function tally(results: readonly AttemptResult[], differences: ReportedDifference[]): Tally {
  for (const { attempt, model, second, known } of results) {
    if (model === second) continue;
    const { title } = attempt;
    differences.push({
      kind: 'row',
      title,
      what: 'outcome',
      model,
      second,
      known: known?.id ?? null,
    });
  }
  const found: Tally = { tried: results.length, agree: 0, known: 0, notOffered: 0, differs: 0 };
  for (const result of results) found[bucketOf(result)]++;
  return found;
}

function exitTally(results: readonly ExitResult[], differences: ReportedDifference[]) {
  return {
    ...caseTally('exit', results, differences),
    values: results.reduce((sum, { compared }) => sum + compared, 0),
  };
}

/** Cases of which each may differ in several values. */
function caseTally(
  kind: ReportedDifference['kind'],
  results: readonly CaseResult[],
  differences: ReportedDifference[],
): SmallTally {
  for (const { title, differences: found } of results) {
    for (const { what, model, second, known } of found) {
      differences.push({ kind, title, what, model, second, known: known?.id ?? null });
    }
  }
  const isKnown = ({ differences: found }: CaseResult): boolean =>
    found.length > 0 && found.every(({ known }) => known !== null);
  return {
    tried: results.length,
    agree: results.filter(({ differences: found }) => found.length === 0).length,
    known: results.filter(isKnown).length,
  };
}

function payloadTally(result: PayloadResult, differences: ReportedDifference[]): PayloadTally {
  const { differences: found, ...rest } = result;
  for (const { title, what, model, second, known } of found) {
    differences.push({ kind: 'payload', title, what, model, second, known: known?.id ?? null });
  }
  return {
    ...rest,
    agree: result.values - found.length,
    known: found.filter(({ known }) => known !== null).length,
  };
}

function peerTallies(
  { tallies, failures }: PeerReport,
  differences: ReportedDifference[],
): PeerReport['tallies'] {
  for (const { row, what, model, peer } of failures) {
    const title = `${row.source} ${row.test}`;
    differences.push({ kind: 'peer', title, what, model, second: peer, known: null });
  }
  return tallies;
}

/** The lists of the peers' cases together. */
export function totalOf(tallies: PeerReport['tallies']): PeerTally {
  const sum: PeerTally = { rows: 0, held: 0, known: 0, notOffered: 0, attempts: 0 };
  for (const one of Object.values(tallies)) add(sum, one);
  return sum;
}

function sequenceTally(
  results: readonly SequenceResult[],
  differences: ReportedDifference[],
): SmallTally {
  const cases = results.map(({ sequence: { title }, differences: found, known }) => ({
    title,
    differences: found.map((one) => ({ ...one, known })),
  }));
  return caseTally('instruction', cases, differences);
}
