/**
 * The payload on the second machine: its own VM exits, watched from outside by the machine's debugger.
 *
 * Source: debugger.ts for how it is watched; rom/ for the monitor that plays KVM.
 * Invariant: nothing is put between the processor and the payload: HOST_RIP is the payload's own, and so is the memory.
 */
import { CARETAKER_RUN_STATE } from '../../../abi/ccb.js';
import { toIndex } from '../../../abi/uint.js';
import { VMCS_FIELDS } from '../../../abi/vmcs-fields.js';
import { X2APIC } from '../../../abi/x2apic.js';
import { readAnswers } from '../answers.js';
import {
  findingCommands,
  readStops,
  tracingCommands,
  type DebuggerStop,
  type TracedStep,
} from '../debugger.js';
import { ConformError } from '../errors.js';
import { layOutGuest } from '../guest-area.js';
import { MonitorProgram } from '../program.js';
import type { SecondMachine } from '../second-machine.js';
import type { VmcsLayout } from '../vmcs-layout.js';
import type { PayloadCase } from './cases.js';
import { guestIdt, type KernelScript } from './kernel-script.js';
import type { Effect, Passage, Recording, Stop, StopKind } from './recording.js';
import type { Stage } from './stage.js';

const INTERCEPT_ALL = 0x1_0000n;
const INTERCEPT_NONE = 0x1_7000n;
const PAGE = 4096;
/** An exit, a VM entry, what is between and the payload's handlers; one that loops makes more. */
const STOPS_OF_AN_EXIT = 8;
/** How long the next kernel lets the payload wait. */
const GAP_PAUSES = 100;

/**
 * Lets the payload answer the cases on the second machine. `before` are instructions right before places of interest: with
 * two processors the debugger looks for breakpoints only within a slice of a few instructions and not where one begins, and
 * a stop begins a slice; so one of two neighbours is always found, and from the first the second.
 *
 * @throws ConformError
 */
export function recordOnSecond(
  machine: SecondMachine,
  layout: VmcsLayout,
  stage: Stage,
  script: KernelScript,
  cases: readonly PayloadCase[],
  before: readonly bigint[] = [],
): Recording {
  const program = programFor(stage, script, cases);
  const { places } = stage;
  const breakpoints = [
    ...[places.run, ...places.vmresume, ...places.vmlaunch, ...places.handlers],
    ...before,
  ];
  const kindOf = (stop: DebuggerStop): StopKind => {
    if (stop.isExit) return 'exit';
    if (stop.rip === places.run) return 'run';
    if (places.vmresume.includes(stop.rip)) return 'vmresume';
    if (places.vmlaunch.includes(stop.rip)) return 'vmlaunch';
    return places.handlers.includes(stop.rip) ? 'handler' : 'other';
  };
  const processors = isGap(cases) ? 2 : 1;
  const mostStops = STOPS_OF_AN_EXIT * exitsOf(cases) + breakpoints.length;
  const finding = machine.watch(program, findingCommands(breakpoints, mostStops), processors);
  const kinds = readStops(finding.output)
    .slice(1, 1 + mostStops)
    .map(kindOf);
  if (!finding.hasEnded || kinds.length === mostStops) throw endless(cases, kinds);
  const traced = tracedAfter(kinds);
  const orders = kinds.map((kind, i) => ({
    dump: kind === 'other' ? null : { address: stage.vmcsRegion, words: layout.words },
    isTraced: traced[i]!,
  }));
  const { output, hasEnded } = machine.watch(
    program,
    tracingCommands(breakpoints, orders),
    processors,
  );
  if (!hasEnded) throw endless(cases, kinds);
  const stops = readStops(output).slice(1, 1 + orders.length);
  const region = toIndex(stage.vmcsRegion);
  const toStop = (stop: DebuggerStop): Stop => ({
    kind: kindOf(stop),
    tsc: stop.tick,
    rip: stop.rip,
    registers: new Map([...stop.registers, ['RIP', stop.rip]]),
    vmcs: layout.read((offset) => stop.words.get(region + offset)),
  });
  const dumps = readAnswers(output).filter((answer) => answer.kind === 'memory');
  return {
    passages: passagesOf(
      stops.map(toStop),
      (index) => stops[index]!.steps,
      (step) => shadowLast(stage, effectsOf(step, region, layout)),
      processors > 1,
    ),
    memory: stage.written().map(({ what, address }, i) => ({
      what,
      address,
      bytes: dumps[i]?.bytes ?? new Uint8Array(0),
    })),
  };
}

/** Exits of all cases, the VMCALL that ends each among them. */
function exitsOf(cases: readonly PayloadCase[]): number {
  return cases.reduce((sum, one) => sum + exitsOfCase(one), 0);
}

function exitsOfCase({ steps, handlerSteps = [] }: PayloadCase): number {
  return steps.length + handlerSteps.length + 1;
}

/** A payload that does not come back: how far it came, by the exits that it has taken. */
function endless(cases: readonly PayloadCase[], kinds: readonly StopKind[]): ConformError {
  const taken = kinds.filter((kind) => kind === 'exit').length;
  const all = exitsOf(cases);
  let before = 0;
  const at = cases.find((one) => (before += exitsOfCase(one)) >= taken);
  const where =
    at === undefined
      ? `it has taken ${taken} exits of guests that make ${all}`
      : `exit ${taken} of ${all}, in "${at.title}", is the last that it has taken`;
  const message = `the payload does not come back on the second machine: ${where}`;
  return new ConformError('PAYLOAD_ENDLESS', message);
}

function programFor(
  stage: Stage,
  script: KernelScript,
  cases: readonly PayloadCase[],
): MonitorProgram {
  const program = new MonitorProgram();
  program.fill(INTERCEPT_ALL, PAGE, 0xff).fill(INTERCEPT_NONE, PAGE, 0);
  layOutGuest(program);
  const idt = guestIdt();
  program.memory(idt.address, idt.bytes);
  stage.copyTo(program);
  program.fields([]).wrmsr(X2APIC.SIVR, 0x1ffn).regionAt(stage.vmcsRegion);
  if (isGap(cases)) program.startOther(nextKernel(script, cases));
  cases.forEach((one, index) => {
    const way = script.way(one, index);
    for (const { address, bytes } of script.writes(one, way)) program.memory(address, bytes);
    const code = script.guestCode(one);
    if (index === 0 || one.isFresh === true) program.region();
    program.memory(code.address, code.bytes).vmwrite(script.description(one));
    for (const [msr, value] of one.msrs ?? []) program.wrmsr(msr, value);
    if (way === 'run') {
      program
        .registers({
          RAX: stage.routing.cr3,
          RCX: stage.routing.stack,
          RDX: stage.places.run,
          RDI: stage.lane.vcpu.ccb,
          R8: stage.runStub,
        })
        .enter('jump', 0);
    } else program.registers(script.registers(one)).enter(way, 0);
    if (one.afterwards === 'eoi') program.wrmsr(X2APIC.EOI, 0n);
    if (one.afterwards === 'iret') program.probeNmi();
  });
  for (const { address, bytes } of stage.written()) program.dump(address, bytes);
  return program;
}

/** Whether a second processor is wanted, which attaches. */
function isGap(cases: readonly PayloadCase[]): boolean {
  return cases.some(({ isAttached }) => isAttached === false);
}

/** The next kernel on the second processor: it attaches whenever the payload waits. */
function nextKernel(script: KernelScript, cases: readonly PayloadCase[]): MonitorProgram {
  const program = new MonitorProgram();
  for (const one of cases) {
    if (one.isAttached !== false) continue;
    const { address, value } = script.waiting(one);
    program.wait(address, value).delay(GAP_PAUSES);
    for (const { address: to, bytes } of script.attaching()) program.memory(to, bytes);
    if (value === CARETAKER_RUN_STATE.SPINNING) program.wait(address, CARETAKER_RUN_STATE.RUNNING);
  }
  return program;
}

/** Whether the payload executes between each stop and the next one. */
function tracedAfter(kinds: readonly StopKind[]): boolean[] {
  let isTraced = false;
  return kinds.map((kind, i) => {
    const next = kinds.slice(i + 1).find((one) => one !== 'other');
    switch (kind) {
      case 'exit':
      case 'run':
        isTraced = true;
        break;
      case 'vmresume':
      case 'vmlaunch':
        // A VM entry that fails is in the middle of a passage.
        isTraced = next === 'vmlaunch';
        break;
      case 'handler':
        isTraced = false;
        break;
      case 'other':
        break;
    }
    return isTraced;
  });
}

/** Puts stops together. */
function passagesOf(
  stops: readonly Stop[],
  stepsAt: (index: number) => readonly TracedStep[],
  effects: (step: TracedStep) => readonly Effect[],
  hasTicks: boolean,
): Passage[] {
  const passages: Passage[] = [];
  const traced = tracedAfter(stops.map(({ kind }) => kind));
  let from: Stop | null = null;
  let steps: TracedStep[] = [];
  stops.forEach((here, i) => {
    if (here.kind === 'exit' || here.kind === 'run') {
      from = here;
      steps = [];
    }
    if (from === null) return;
    if (traced[i] === true) {
      steps.push(...stepsAt(i));
      return;
    }
    const path = steps.map(({ rip }) => rip);
    const ticks = hasTicks ? { ticks: steps.map(({ tick }) => tick) } : {};
    passages.push({ from, path, ...ticks, effects: steps.flatMap(effects), to: here });
    from = null;
  });
  return passages;
}

/** Writes to shadow stacks behind the others of their instruction, as the model has them. */
function shadowLast(stage: Stage, effects: readonly Effect[]): Effect[] {
  const isShadow = (one: Effect): boolean =>
    one.kind === 'memory' && stage.isOnShadowStack(one.address);
  return [...effects.filter((one) => !isShadow(one)), ...effects.filter(isShadow)];
}

/** What an instruction wrote; the processor's own accesses but those to the VMCS are left out. */
function effectsOf(step: TracedStep, region: number, layout: VmcsLayout): Effect[] {
  return step.accesses.flatMap((access): Effect[] => {
    if (!access.isWrite) return [];
    const { physical, sizeBytes, value, structure } = access;
    if (structure === 'VMCS') {
      const field = layout.fieldAt(toIndex(physical) - region);
      const readOnly = VMCS_FIELDS.find(({ name }) => name === field)?.readOnly ?? true;
      if (field === undefined || readOnly) return [];
      return [{ kind: 'vmcs', rip: step.rip, field, value }];
    }
    if (structure !== null) return [];
    return [{ kind: 'memory', rip: step.rip, address: physical, sizeBytes, value }];
  });
}
