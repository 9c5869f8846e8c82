/**
 * The second machine as something that executes programs: the monitor built once, one boot a program.
 *
 * Invariant: a case that stops the machine itself (an internal error of Bochs') costs that case only: the cases behind it
 * run in a new boot.
 */
import { HarnessBug } from '../../abi/errors.js';
import type { FieldName } from '../../abi/vmcs-fields.js';
import type { VmxCapabilities } from '../vmx/capabilities.js';
import { byLabel, endedWell, readAnswers, type Answer } from './answers.js';
import { runBochs } from './bochs.js';
import { askCapabilities, capabilitiesOf } from './capabilities.js';
import { MonitorProgram } from './program.js';
import { buildMonitor, romImage } from './rom-image.js';

/** What one case answered; `stopped` says why when the machine itself ended in it. */
export interface CaseAnswers {
  readonly answers: readonly Answer[];
  readonly stopped: string | null;
}

/** Adds the operations of case `index` to a program. */
export type AddCase = (program: MonitorProgram, index: number) => void;

/** Bochs with the monitor. */
export class SecondMachine {
  readonly #monitor = buildMonitor();
  #capabilities: VmxCapabilities | undefined;
  /** How often it was booted. */
  boots = 0;

  /** Executes a program to its end. @throws ConformError */
  run(program: MonitorProgram, fields: readonly FieldName[] = []): Answer[] {
    this.boots++;
    return readAnswers(runBochs(romImage(program, this.#monitor)).output, fields);
  }

  /** Executes cases, each behind its label; `begin` adds what comes before them. @throws ConformError */
  runCases(
    count: number,
    fields: readonly FieldName[],
    add: AddCase,
    begin: (program: MonitorProgram) => void = () => undefined,
  ): CaseAnswers[] {
    const cases: CaseAnswers[] = [];
    while (cases.length < count) {
      const program = new MonitorProgram().fields(fields);
      begin(program);
      for (let index = cases.length; index < count; index++) add(program.label(index), index);
      this.boots++;
      const { output, log } = runBochs(romImage(program, this.#monitor));
      const whole = endedWell(output);
      const groups = byLabel(readAnswers(output, fields, whole));
      const from = cases.length;
      const last = whole ? count - 1 : Math.max(-1, ...groups.keys());
      if (last < from)
        throw new HarnessBug(`the second machine stopped before a case: ${panicOf(log)}`);
      for (let index = from; index <= last; index++) {
        const stopped = !whole && index === last ? panicOf(log) : null;
        cases.push({ answers: groups.get(index) ?? [], stopped });
      }
    }
    return cases;
  }

  /** What its VMX offers. */
  get capabilities(): VmxCapabilities {
    this.#capabilities ??= capabilitiesOf(this.run(askCapabilities(new MonitorProgram())));
    return this.#capabilities;
  }
}

function panicOf(log: string): string {
  const line = log.split('\n').find((one) => one.includes('PANIC'));
  return line?.replace(/^.*>>PANIC<< */, '') ?? 'it stopped without a word';
}
