/**
 * MSRs on both machines, the local APIC's among them, access by access: values, #GP, interrupts taken.
 *
 * Source: the model is RootMsrs and LocalApic of emulator/vmx/root; the second machine's is the one that its monitor runs on.
 * Invariant: all steps of a case but `wait` answer something, and every answer is compared.
 */
import { unreachable } from '../../abi/errors.js';
import { MSR } from '../../abi/msrs.js';
import { hex } from '../../abi/uint.js';
import { LVT, X2APIC } from '../../abi/x2apic.js';
import type { VmxCapabilities } from '../vmx/capabilities.js';
import type { LocalApic } from '../vmx/root/local-apic.js';
import type { RootMsrs } from '../vmx/root/msrs.js';
import type { Answer } from './answers.js';
import type { CaseDifference, CaseResult } from './case-result.js';
import { knownApicDifference, type MetApicDifference } from './known-apic-differences.js';
import type { ApicCase, ApicStep } from './local-apic-cases.js';
import { modelMsrs, modelPcpu } from './model.js';
import type { MonitorProgram } from './program.js';
import type { SecondMachine } from './second-machine.js';

/** Iterations of the monitor's loop, and ticks of the model, in which every timer of the cases expires. */
const WAIT_PAUSES = 5000;
const WAIT_TICKS = 1_000_000;
const ENABLED = 0x1ffn;
/** More interrupts than a case leaves requested or in service. */
const MOST_LEFT = 40;
const LVT_REGISTERS = [
  X2APIC.LVT_TIMER,
  X2APIC.LVT_THERMAL,
  X2APIC.LVT_PMI,
  X2APIC.LVT_LINT0,
  X2APIC.LVT_LINT1,
  X2APIC.LVT_ERROR,
] as const;

/** Makes every access on both machines. */
export function compareLocalApic(machine: SecondMachine, cases: readonly ApicCase[]): CaseResult[] {
  const second = machine.runCases(cases.length, [], (program, index) => {
    begin(program);
    for (const step of cases[index]!.steps) add(program, step);
  });
  return cases.map((one, index) =>
    compareCase(machine.capabilities, one, second[index]!.answers.flatMap(textOf)),
  );
}

/** The state in which a case begins, whatever the last one left. */
function begin(program: MonitorProgram): void {
  program.wrmsr(MSR.IA32_TSC_DEADLINE, 0n).wrmsr(X2APIC.TIMER_INITIAL, 0n);
  program.wrmsr(X2APIC.SIVR, ENABLED).wrmsr(X2APIC.TPR, 0n);
  for (let i = 0; i < MOST_LEFT; i++) program.wrmsr(X2APIC.EOI, 0n).takeInterrupts();
  for (const index of LVT_REGISTERS) program.wrmsr(index, BigInt(LVT.MASKED));
  for (let i = 0; i < MOST_LEFT; i++) program.wrmsr(X2APIC.EOI, 0n);
  program.wrmsr(X2APIC.ESR, 0n).wrmsr(X2APIC.ESR, 0n).wrmsr(X2APIC.TIMER_DIVIDE, 0n);
}

function add(program: MonitorProgram, step: ApicStep): void {
  switch (step.kind) {
    case 'write':
      program.wrmsr(step.index, step.value);
      break;
    case 'read':
      program.rdmsr(step.index);
      break;
    case 'take':
      program.takeInterrupts();
      break;
    case 'wait':
      program.delay(WAIT_PAUSES);
      break;
    default:
      unreachable(step);
  }
}

function textOf(answer: Answer): string[] {
  switch (answer.kind) {
    case 'wrmsr':
      return [answer.faulted ? '#GP' : 'written'];
    case 'msr':
      return [answer.value === null ? '#GP' : hex(answer.value)];
    case 'taken':
      return [`${answer.count} taken`];
    default:
      return [];
  }
}

function compareCase(
  capabilities: VmxCapabilities,
  { title, steps }: ApicCase,
  answers: readonly string[],
): CaseResult {
  const apic = new ModelApic(capabilities);
  const answering = steps.filter(({ kind }) => kind !== 'wait').length;
  // What comes before is the beginning's.
  const there = answers.slice(-answering);
  const differences: CaseDifference[] = [];
  const met: MetApicDifference[] = [];
  let at = 0;
  for (const step of steps) {
    const model = apic.execute(step);
    if (model === null) continue;
    const second = there[at++] ?? 'no answer';
    if (model === second) continue;
    const known = knownApicDifference(step, model, second, title, met);
    if (known !== null) met.push({ known, step });
    differences.push({ what: describe(step), model, second, known });
  }
  return { title, differences };
}

function describe(step: ApicStep): string {
  if (step.kind === 'write') return `WRMSR ${hex(step.index)} = ${hex(step.value)}`;
  return step.kind === 'read' ? `RDMSR ${hex(step.index)}` : 'interrupts on';
}

/** The first machine: a processor's MSRs, the local APIC's among them. */
class ModelApic {
  #now = 1_000;
  readonly #msrs: RootMsrs;
  readonly #apic: LocalApic;

  constructor(capabilities: VmxCapabilities) {
    const { registers } = modelPcpu(capabilities);
    const { msrs, apic } = modelMsrs(capabilities, registers, () => this.#now);
    this.#msrs = msrs;
    this.#apic = apic;
    msrs.write(X2APIC.SIVR, ENABLED);
  }

  /** What it answers; null for a wait. */
  execute(step: ApicStep): string | null {
    const apic = this.#apic;
    this.#now++;
    apic.tick();
    switch (step.kind) {
      case 'write':
        return this.#msrs.write(step.index, step.value) ? 'written' : '#GP';
      case 'read': {
        const value = this.#msrs.read(step.index);
        return value === undefined ? '#GP' : hex(value);
      }
      case 'take': {
        let count = 0;
        for (; apic.deliverable >= 0; count++) apic.acknowledge();
        return `${count} taken`;
      }
      case 'wait':
        this.#now += WAIT_TICKS;
        apic.tick();
        return null;
      default:
        return unreachable(step);
    }
  }
}
