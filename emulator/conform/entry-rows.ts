/**
 * Bad and good VMCSs tried on both machines: every check of VM entry, and every single bit of the state that is checked.
 *
 * Source: emulator/vmx/entry-checks: each row's own `breaks` over the base VMCS.
 * Invariant: an attempt is compared in full (VMfail number, or exit reason and qualification) even where the second machine
 * does not offer what its row is about: both must then refuse it for the same reason, or both accept it.
 */
import { EXIT_REASON_WORD } from '../../abi/exit-reasons.js';
import { hex } from '../../abi/uint.js';
import type { FieldName } from '../../abi/vmcs-fields.js';
import type { VmxCapabilities } from '../vmx/capabilities.js';
import type { VmcsDescription } from '../vmx/description.js';
import { ENTRY_RULES, brokenRules } from '../vmx/entry-checks/evaluate.js';
import type { EntryRule, VmcsView } from '../vmx/entry-checks/rule.js';
import { vmEntry, type VmEntry } from '../vmx/vm-entry.js';
import type { Answer } from './answers.js';
import { baseVmcs } from './base-vmcs.js';
import { knownDifference, type KnownDifference } from './known-differences.js';
import { modelPcpu, withVmcs } from './model.js';
import type { ENTER } from './program.js';
import type { SecondMachine } from './second-machine.js';

const OUTCOME_FIELDS: readonly FieldName[] = ['VM_EXIT_REASON', 'EXIT_QUALIFICATION'];

/** How a machine ended an entry, comparable: `entered`, `VMfail 7`, `exit 33 qualification 0x0`. */
export type Outcome = string;

/** A VMCS to try. */
export interface Attempt {
  readonly title: string;
  /** The row that it was made from, undefined for one that was made otherwise. */
  readonly rule?: EntryRule;
  /** What differs from the base VMCS. */
  readonly overrides: VmcsDescription;
  readonly memory: readonly (readonly [hpa: bigint, value: bigint])[];
  /** VMLAUNCH where it does not say. */
  readonly how?: keyof typeof ENTER;
}

/** How an attempt came out; `differs` is a difference that nothing explains. */
export type Bucket = 'agree' | 'known' | 'notOffered' | 'differs';

/** An attempt on both machines. */
export interface AttemptResult {
  readonly attempt: Attempt;
  readonly model: Outcome;
  readonly second: Outcome;
  /** False where the row is about something that this machine has not, or has and cannot be without. */
  readonly offered: boolean;
  readonly known: KnownDifference | null;
  /** Every rule that the model sees broken, in its order. */
  readonly broken: readonly EntryRule[];
}

/**
 * One attempt a row of the entry checks. Both machines are in IA-32e mode, so a row about a processor outside it is tried
 * and cannot be what decides: it is not offered.
 */
export function rowAttempts(capabilities: VmxCapabilities): Attempt[] {
  const base = baseVmcs(capabilities);
  return ENTRY_RULES.map((rule) => ({
    title: rule.rule,
    rule,
    overrides: rule.breaks(base),
    memory: rule.setting?.memory ?? [],
  }));
}

/** Tries every attempt on both machines. */
export function compareEntries(
  machine: SecondMachine,
  attempts: readonly Attempt[],
): AttemptResult[] {
  const second = trySecond(machine, attempts);
  return attempts.map((attempt, i) => holdAgainst(machine.capabilities, attempt, second[i]!));
}

/** Tries every attempt on the second machine. */
export function trySecond(machine: SecondMachine, attempts: readonly Attempt[]): Outcome[] {
  const cases = machine.runCases(
    attempts.length,
    OUTCOME_FIELDS,
    (program, index) => {
      const { overrides, memory, how = 'launch' } = attempts[index]!;
      for (const [hpa, value] of memory) program.values(hpa, value);
      program.region().vmwrite(overrides).enter(how);
      for (const [hpa] of memory) program.values(hpa, 0n);
    },
    (program) => program.base(baseVmcs(machine.capabilities)).registers(),
  );
  return cases.map(({ answers, stopped }) =>
    stopped === null ? outcomeOf(answers) : `machine stopped: ${stopped}`,
  );
}

/** The one bucket of an attempt. */
export function bucketOf({ model, second, offered, known }: AttemptResult): Bucket {
  if (model !== second) return known === null ? 'differs' : 'known';
  return offered ? 'agree' : 'notOffered';
}

function outcomeOf(answers: readonly Answer[]): Outcome {
  const answer = answers.find((one) => one.kind === 'entry');
  if (answer === undefined) return 'no answer';
  const { kind, error, fields } = answer.entry;
  switch (kind) {
    case 'vmfail-valid':
      return `VMfail ${error}`;
    case 'vmfail-invalid':
      return 'VMfailInvalid';
    case 'neither':
      return 'neither failed nor exited';
    case 'exit': {
      const reason = fields.get('VM_EXIT_REASON') ?? 0n;
      if ((reason & BigInt(EXIT_REASON_WORD.FAILED_VMENTRY >>> 0)) === 0n) return 'entered';
      return failureText(reason & 0xffffn, fields.get('EXIT_QUALIFICATION') ?? 0n);
    }
  }
}

function failureText(basic: bigint | number, qualification: bigint | number): Outcome {
  return `exit ${basic.toString()} qualification ${hex(qualification)}`;
}

/** Tries an attempt on the model and holds the outcome against what the second machine answered. */
export function holdAgainst(
  capabilities: VmxCapabilities,
  attempt: Attempt,
  second: Outcome,
): AttemptResult {
  const pcpu = modelPcpu(capabilities);
  for (const [hpa, value] of attempt.memory) pcpu.memory.writeU64(hpa, value);
  const vmcs = withVmcs(pcpu, { ...baseVmcs(capabilities), ...attempt.overrides });
  const broken = brokenRules(vmcs, pcpu);
  pcpu.blocking.movSs = attempt.how === 'movss';
  const model = textOf(vmEntry(pcpu, vmcs, 'launch'));
  const { rule } = attempt;
  // Both machines are in IA-32e mode at VM entry.
  const applies = rule?.setting?.longMode !== false;
  const decides =
    rule === undefined || broken[0] === rule || (rule.neverFirst === true && broken.includes(rule));
  const offered = applies && decides;
  const known = model === second ? null : explain(broken, second, vmcs);
  return { attempt, model, second, offered, known, broken };
}

/** The known difference without which the machines would agree, if there is one. */
function explain(
  broken: readonly EntryRule[],
  second: Outcome,
  vmcs: VmcsView,
): KnownDifference | null {
  const [first] = broken;
  const known = first === undefined ? undefined : knownDifference(first, vmcs);
  if (known === undefined) return null;
  if (second.startsWith('machine stopped') || second === known.answers) return known;
  const next = broken.find((rule) => knownDifference(rule, vmcs) === undefined);
  return second === outcomeOfRule(next) ? known : null;
}

/** How an entry ends that a rule refuses; without one it is accepted. */
export function outcomeOfRule(rule: EntryRule | undefined): Outcome {
  if (rule === undefined) return 'entered';
  const { result } = rule;
  return result.kind === 'vmfail'
    ? `VMfail ${result.error}`
    : failureText(33, result.qualification);
}

function textOf(entry: VmEntry): Outcome {
  switch (entry.kind) {
    case 'entered':
      return 'entered';
    case 'vmfail':
      return `VMfail ${entry.error}`;
    case 'entry-failure':
      return failureText(entry.basic, entry.qualification);
    case 'abort':
      return `VMX abort ${entry.code}`;
  }
}
