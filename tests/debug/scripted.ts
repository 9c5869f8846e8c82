/** A controller that follows a script: what the tests of the session hold, without a face. */
import { createHash } from 'node:crypto';
import { Conductor } from '../../emulator/machine/conductor.js';
import { parseScenario } from '../../emulator/machine/scenario/load.js';
import type { Scenario } from '../../emulator/machine/scenario/schema.js';
import { printPosition } from '../../emulator/debug/position.js';
import type { Resume, Stop } from '../../emulator/debug/resume.js';
import { debugRun, type DebugSession } from '../../emulator/debug/session.js';
import { referencePayload } from '../support/reference-payload.js';

/** A whole live update with a blocked exit, short enough to be taken many times. */
export const SHORT = parseScenario(
  `
name: short
description: a live update in a few hundred exits
vcpus: 2
seed: 3
mix: busy
rate: 3000
steps:
  - run: { exits: 60 }
  - pause-devices: true
  - preserve: {}
  - vmm-exit: true
  - kexec: { seconds: 0.02, script: [{ vcpu: 1, at: 0.005, exit: { kind: access, gpa: 0x7000 } }] }
  - retrieve: true
  - finish: true
  - run: { exits: 40 }
`,
  'short',
);

/** One thing a script does at a stop: look, change, and go on. */
export type Line = Resume | ((session: DebugSession, stop: Stop) => Resume);

/** What a stop looks like in a test: cause, position and symbol. */
export function describeStop(session: DebugSession, stop: Stop): string {
  const lane = session.lane;
  const name = session.image.nameOf(lane, lane.rip);
  const where = name === null ? '?' : `${name.name}+${name.offset}`;
  return `${stop.cause.kind} ${printPosition(stop.position)} vCPU ${String(stop.vcpu)} ${where}`;
}

/** Follows a script and quits; what was seen at each stop. */
export function follow(lines: readonly Line[], scenario: Scenario = SHORT): string[] {
  const seen: string[] = [];
  let at = 0;
  debugRun({ scenario, payload: referencePayload() }, (session, stop) => {
    seen.push(describeStop(session, stop));
    const line = lines[at++] ?? { kind: 'quit' };
    return typeof line === 'function' ? line(session, stop) : line;
  });
  return seen;
}

/** What can be told of a machine at one time: registers of all cores, memory, VMCS values, clocks. */
export function fingerprint(session: DebugSession): string {
  const { machine } = session;
  const lanes = machine.lanes.map((lane) => ({
    phase: lane.phase,
    registers: [...lane.pcpu.registers.values].map((value) => value.toString(16)),
    vmcs: [...(lane.pcpu.vmx.current?.values ?? [])].map((value) => value.toString(16)),
    instructions: lane.engine.counters.instructions,
    tsc: lane.pcpu.now(),
  }));
  return JSON.stringify({ lanes, now: machine.now(), memory: hash(machine.memory.bytes) });
}

const hash = (bytes: Uint8Array): string => createHash('sha1').update(bytes).digest('hex');

/** What a run comes to, with or without a debugger. */
export function outcomeOf({ machine }: Conductor): unknown {
  return {
    now: machine.now(),
    timeline: machine.timeline.mostTelling(100_000),
    invariants: machine.ledger.results(),
    evidence: machine.evidence,
    lanes: machine.lanes.map((lane) => ({
      exits: lane.truth.exits,
      instructions: lane.engine.counters.instructions,
      stores: lane.engine.counters.stores,
      tsc: lane.pcpu.now(),
      registers: [...lane.pcpu.registers.values],
    })),
    memory: hash(machine.memory.bytes),
  };
}

/** The same scenario without a debugger. */
export function undebugged(scenario: Scenario = SHORT): unknown {
  const conductor = new Conductor(scenario, referencePayload(), false);
  conductor.run();
  return outcomeOf(conductor);
}
