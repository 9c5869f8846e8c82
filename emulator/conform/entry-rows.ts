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
import type { EntryRule } from '../vmx/entry-checks/rule.js';
import { vmEntry, type VmEntry } from '../vmx/vm-entry.js';
import type { Answer } from './answers.js';
import { baseVmcs } from './base-vmcs.js';
import { knownDifference, type KnownDifference } from './known-differences.js';
import { modelPcpu, withVmcs } from './model.js';
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
}

/** An attempt on both machines. */
export interface AttemptResult {
  readonly attempt: Attempt;
  readonly model: Outcome;
  readonly second: Outcome;
  /** False where the row is about something that this machine has not, or has and cannot be without. */
  readonly offered: boolean;
  readonly known: KnownDifference | null;
}

/** One attempt a row of the entry checks; those of a processor outside IA-32e mode apart. */
export function rowAttempts(capabilities: VmxCapabilities): Attempt[] {
  const base = baseVmcs(capabilities);
  return ENTRY_RULES.filter((rule) => rule.setting?.longMode !== false).map((rule) => ({
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
  const { capabilities } = machine;
  const base = baseVmcs(capabilities);
  const cases = machine.runCases(
    attempts.length,
    OUTCOME_FIELDS,
    (program, index) => {
      const { overrides, memory } = attempts[index]!;
      for (const [hpa, value] of memory) program.values(hpa, value);
      program.region().vmwrite(overrides).enter();
      for (const [hpa] of memory) program.values(hpa, 0n);
    },
    (program) => program.base(base).registers(),
  );
  return attempts.map((attempt, index): AttemptResult => {
    const { answers, stopped } = cases[index]!;
    const second = stopped === null ? outcomeOf(answers) : `machine stopped: ${stopped}`;
    return resultOf(capabilities, base, attempt, second);
  });
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

function resultOf(
  capabilities: VmxCapabilities,
  base: VmcsDescription,
  attempt: Attempt,
  second: Outcome,
): AttemptResult {
  const pcpu = modelPcpu(capabilities);
  for (const [hpa, value] of attempt.memory) pcpu.memory.writeU64(hpa, value);
  const vmcs = withVmcs(pcpu, { ...base, ...attempt.overrides });
  const broken = brokenRules(vmcs, pcpu);
  const model = textOf(vmEntry(pcpu, vmcs, 'launch'));
  const { rule } = attempt;
  const offered =
    rule === undefined || broken[0] === rule || (rule.neverFirst === true && broken.includes(rule));
  const known = model === second ? null : explain(broken, second);
  return { attempt, model, second, offered, known };
}

/** The known difference without which the machines would agree, if there is one. */
function explain(broken: readonly EntryRule[], second: Outcome): KnownDifference | null {
  const [first] = broken;
  const known = first === undefined ? undefined : knownDifference(first);
  if (known === undefined) return null;
  if (second.startsWith('machine stopped') || second === known.answers) return known;
  const next = broken.find((rule) => knownDifference(rule) === undefined);
  return second === ruleText(next) ? known : null;
}

function ruleText(rule: EntryRule | undefined): Outcome {
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
