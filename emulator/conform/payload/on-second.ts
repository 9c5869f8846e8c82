/**
 * The payload on the second machine: its own VM exits, watched from outside by the machine's debugger.
 *
 * Source: debugger.ts for how it is watched; rom/ for the monitor that plays KVM.
 * Invariant: nothing is put between the processor and the payload: HOST_RIP is the payload's own, and so is the memory.
 */
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
import { layOutGuest } from '../guest-area.js';
import { MonitorProgram } from '../program.js';
import type { SecondMachine } from '../second-machine.js';
import { REGION_BYTES, type VmcsLayout } from '../vmcs-layout.js';
import type { PayloadCase } from './cases.js';
import { guestIdt, type KernelScript } from './kernel-script.js';
import type { Effect, Passage, Recording, Stop, StopKind } from './recording.js';
import type { Stage } from './stage.js';

const INTERCEPT_ALL = 0x1_0000n;
const INTERCEPT_NONE = 0x1_7000n;
const PAGE = 4096;

/** Lets the payload answer the cases on the second machine. @throws ConformError */
export function recordOnSecond(
  machine: SecondMachine,
  layout: VmcsLayout,
  stage: Stage,
  script: KernelScript,
  cases: readonly PayloadCase[],
): Recording {
  const program = programFor(stage, script, cases);
  const { places } = stage;
  const breakpoints = [places.run, ...places.vmresume, ...places.vmlaunch, places.handler];
  const kindOf = (stop: DebuggerStop): StopKind => {
    if (stop.isExit) return 'exit';
    if (stop.rip === places.run) return 'run';
    if (places.vmresume.includes(stop.rip)) return 'vmresume';
    if (places.vmlaunch.includes(stop.rip)) return 'vmlaunch';
    return stop.rip === places.handler ? 'handler' : 'other';
  };
  const found = readStops(machine.watch(program, findingCommands(breakpoints)));
  const kinds = found.slice(1).map(kindOf);
  const orders = kinds.map((kind, i) => ({
    dump: { address: stage.vmcsRegion, words: REGION_BYTES / 4 },
    isTraced: isInPayload(kind, kinds[i + 1]),
  }));
  const output = machine.watch(program, tracingCommands(breakpoints, orders));
  const stops = readStops(output).slice(1);
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
    passages: passagesOf(stops, toStop, (step) => effectsOf(step, region, layout)),
    memory: stage.written().map(({ what, address }, i) => ({
      what,
      address,
      bytes: dumps[i]?.bytes ?? new Uint8Array(0),
    })),
  };
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

/** Whether the payload executes between a stop and the next one. */
function isInPayload(kind: StopKind, next: StopKind | undefined): boolean {
  if (kind === 'exit' || kind === 'run') return true;
  return (kind === 'vmresume' || kind === 'vmlaunch') && next === 'vmlaunch';
}

/** Puts stops together; a VM entry that fails is in the middle of a passage. */
function passagesOf(
  stops: readonly DebuggerStop[],
  toStop: (stop: DebuggerStop) => Stop,
  effects: (step: TracedStep) => readonly Effect[],
): Passage[] {
  const passages: Passage[] = [];
  let from: Stop | null = null;
  let steps: TracedStep[] = [];
  stops.forEach((stop, i) => {
    const here = toStop(stop);
    const next = stops[i + 1];
    if (here.kind === 'exit' || here.kind === 'run') {
      from = here;
      steps = [...stop.steps];
    } else if (from !== null) {
      const goesOn = next !== undefined && isInPayload(here.kind, toStop(next).kind);
      if (goesOn) steps.push(...stop.steps);
      else {
        const path = steps.map(({ rip }) => rip);
        passages.push({ from, path, effects: steps.flatMap(effects), to: here });
        from = null;
      }
    }
  });
  return passages;
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
