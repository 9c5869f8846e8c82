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
import { requireBochs, runBochs } from './bochs.js';
import { ConformError } from './errors.js';
import { askCapabilities, capabilitiesOf } from './capabilities.js';
import { MonitorProgram } from './program.js';
import { PROGRAM_LIMIT, buildMonitor, romImage } from './rom-image.js';

/** What one case answered; `stopped` says why when the machine itself ended in it. */
export interface CaseAnswers {
  readonly answers: readonly Answer[];
  readonly stopped: string | null;
}

/** Adds the operations of case `index` to a program. */
export type AddCase = (program: MonitorProgram, index: number) => void;

/** A payload's cases take a few seconds on a machine that has nothing else to do. */
const WATCH_TIMEOUT_MS = 180_000;
/** What a run of many cases may take on a machine that is busy with much else; a guest ends with its timer, whatever it does. */
const CASES_TIMEOUT_MS = 300_000;

/** Bytes of a program after which no case is added: the last one may be long. */
const CASES_LIMIT = PROGRAM_LIMIT - 0x1_0000;

/** What boots an image and returns what it printed. */
export type Boot = typeof runBochs;

/** Bochs with the monitor. */
export class SecondMachine {
  readonly #boot: Boot;
  readonly #monitor: Uint8Array;
  #capabilities: VmxCapabilities | undefined;
  /** How often it was booted. */
  boots = 0;

  /** @throws ConformError BOCHS_MISSING, ROM_BUILD_FAILED. */
  constructor(boot: Boot = runBochs) {
    requireBochs();
    this.#boot = boot;
    this.#monitor = buildMonitor();
  }

  /** Executes a program to its end. @throws ConformError */
  run(program: MonitorProgram, fields: readonly FieldName[] = []): Answer[] {
    this.boots++;
    const { output, timedOut } = this.#boot(romImage(program, this.#monitor));
    if (timedOut) throw new ConformError('BOCHS_TIMEOUT', 'the second machine did not end');
    return readAnswers(output, fields);
  }

  /**
   * Executes a program with the debugger's commands given; the output is the debugger's and the monitor's. What does not
   * come to its end by itself is ended by force.
   */
  watch(
    program: MonitorProgram,
    commands: string,
    processors = 1,
  ): { readonly output: string; readonly hasEnded: boolean } {
    this.boots++;
    const image = romImage(program, this.#monitor);
    const { output, timedOut } = this.#boot(image, {
      commands,
      processors,
      timeoutMs: WATCH_TIMEOUT_MS,
    });
    return { output, hasEnded: !timedOut };
  }

  /** Executes cases, each behind its label; `begin` adds what comes before them. @throws ConformError */
  runCases(
    count: number,
    fields: readonly FieldName[],
    add: AddCase,
    begin: (program: MonitorProgram) => void = () => undefined,
    processors = 1,
  ): CaseAnswers[] {
    const cases: CaseAnswers[] = [];
    while (cases.length < count) {
      const program = new MonitorProgram().fields(fields);
      begin(program);
      let end = cases.length;
      while (end < count && program.sizeBytes < CASES_LIMIT) add(program.label(end), end++);
      this.boots++;
      const { output, log, timedOut } = this.#boot(romImage(program, this.#monitor), {
        timeoutMs: CASES_TIMEOUT_MS,
        processors,
      });
      const whole = endedWell(output);
      const why = timedOut ? 'it went on for ever' : panicOf(log);
      const groups = byLabel(readAnswers(output, fields, whole));
      const from = cases.length;
      const last = whole ? end - 1 : Math.max(-1, ...groups.keys());
      if (last < from) throw new HarnessBug(`the second machine stopped before a case: ${why}`);
      for (let index = from; index <= last; index++) {
        const stopped = !whole && index === last ? why : null;
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
