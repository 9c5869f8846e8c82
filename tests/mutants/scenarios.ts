/**
 * Short scenarios that lead a payload through all that its mutants get wrong.
 *
 * Source: emulator/machine/scenario/schema.ts; the events beside it are those that no guest asks for.
 * Invariant: every step before the gap is measured in time, so that events can be laid into it.
 */
import { readFileSync } from 'node:fs';
import type { GuestExit } from '../../emulator/guest/guest.js';
import * as exits from '../../emulator/guest/exits.js';
import { Conductor } from '../../emulator/machine/conductor.js';
import type { Machine } from '../../emulator/machine/machine.js';
import { parseScenario } from '../../emulator/machine/scenario/load.js';
import { encodeInterruption } from '../../abi/interruption.js';
import { MSR } from '../../abi/msrs.js';
import { X2APIC } from '../../abi/x2apic.js';

/** TSC at which the VM is attached and runs, and at which it is in the middle of the gap. */
const ATTACHED = 5_000_000;
const GAP = 60_000_000;
/** TSC at which vCPU 1 waits for KVM. */
const WAITING = 90_000_000;
/** Ticks between two scripted events, so that each finds the guest running. */
const APART = 1_000_000;

/** What a scenario is, and what happens in it beside its guests. */
export interface Trial {
  readonly yaml: string;
  readonly events: (machine: Machine) => void;
}

const at = (machine: Machine, tsc: number, vcpu: number, exit: GuestExit): void => {
  machine.events.schedule(tsc, () => {
    machine.guests.script(machine.lane(vcpu), { kind: 'exit', after: 0, exit });
  });
};

/** One exit after the other, and nothing of the guest's own between them. */
const inOrder = (machine: Machine, tsc: number, vcpu: number, list: readonly GuestExit[]): void => {
  machine.events.schedule(tsc, () => {
    const lane = machine.lane(vcpu);
    const [last, ...before] = list
      .map((exit) => ({ kind: 'exit', after: 0, exit }) as const)
      .reverse();
    lane.scripted.push(...before.reverse());
    machine.guests.script(lane, last!);
  });
};

const nmi = (machine: Machine, tsc: number, vcpu: number): void => {
  machine.events.schedule(tsc, () => {
    machine.lane(vcpu).pcpu.pendingNmi = true;
  });
};

const device = (machine: Machine, tsc: number): void => {
  machine.events.schedule(tsc, () => {
    const { hostVector, vcpuId } = machine.irqRoutes[0]!;
    const action = { kind: 'interrupt', after: 0, vector: hostVector } as const;
    machine.guests.script(machine.lane(vcpuId), action);
  });
};

const PAGE_FAULT = encodeInterruption('HARD_EXCEPTION', 14, { deliverCode: true });
const SELF = 0x61n;

/** Exits that a mix does not have, one after the other. */
const unusual = (): readonly GuestExit[] => [
  exits.cpuid(0x7, 1),
  exits.cpuid(0xd, 1),
  exits.cpuid(0xb, 1),
  exits.cpuid(0x77),
  exits.rdmsr(MSR.IA32_BIOS_SIGN_ID),
  exits.rdtsc(),
  exits.wrmsr(X2APIC.TPR, 0x20n),
  exits.wrmsr(X2APIC.TPR, 0n),
  { ...exits.pause(), fields: { GUEST_INTERRUPTIBILITY_INFO: 1n } },
  exits.wrmsr(X2APIC.ICR, SELF),
  exits.wrmsr(MSR.IA32_TSC_DEADLINE, 1n),
  { ...exits.rdtsc(), fields: { GUEST_INTERRUPTIBILITY_INFO: 2n } },
  exits.wrmsr(X2APIC.TPR, 0x100n),
];

/** RFLAGS.TF for one instruction, which sends an IPI besides: the trap comes first, and KVM gets to see it. */
const singleStepped = (machine: Machine, tsc: number): void => {
  const traced = { GUEST_RFLAGS: 0x302n };
  at(machine, tsc, 0, { ...exits.wrmsr(X2APIC.SELF_IPI, 0x63n), fields: traced });
};

/** Two interrupts in service at once: the second of a higher class comes before the first one's EOI. */
const nested = (machine: Machine, tsc: number): void => {
  at(machine, tsc, 0, exits.wrmsr(X2APIC.SELF_IPI, 0x62n));
  at(machine, tsc + 200, 0, exits.wrmsr(X2APIC.SELF_IPI, 0x92n));
  at(machine, tsc + 40_000, 0, exits.wrmsr(X2APIC.EOI, 0n));
};

const IF_CLEAR = { GUEST_RFLAGS: 0x2n };
const DEADLINE_MODE = 0x4_00ecn;

/** Two requests while the guest takes none, the registers that tell of them, and the timer's mode. */
const virtualApic = (machine: Machine, tsc: number): void => {
  inOrder(machine, tsc, 0, [
    { ...exits.wrmsr(X2APIC.TPR, 0xf0n), fields: IF_CLEAR },
    { ...exits.wrmsr(X2APIC.SELF_IPI, 0x62n), fields: IF_CLEAR },
    { ...exits.wrmsr(X2APIC.TPR, 0n), fields: IF_CLEAR },
    { ...exits.wrmsr(X2APIC.SELF_IPI, 0x92n), fields: IF_CLEAR },
    { ...exits.pause(), fields: { GUEST_RFLAGS: 0x202n } },
    exits.rdmsr(X2APIC.ISR0 + 4),
    exits.rdmsr(X2APIC.IRR0 + 3),
    exits.rdmsr(X2APIC.PPR),
    exits.rdmsr(X2APIC.LDR),
    exits.wrmsr(X2APIC.EOI, 0n),
    exits.wrmsr(X2APIC.EOI, 0n),
    exits.wrmsr(MSR.IA32_TSC_DEADLINE, 0x7fff_0000_0000n),
    exits.wrmsr(X2APIC.LVT_TIMER, DEADLINE_MODE),
    exits.wrmsr(X2APIC.LVT_TIMER, 0xecn),
    exits.wrmsr(X2APIC.LVT_TIMER, DEADLINE_MODE),
  ]);
};

const whileDelivering = (exit: GuestExit): GuestExit => ({
  ...exit,
  idtVectoringInfo: PAGE_FAULT,
  idtVectoringErrorCode: 7,
});

const liveUpdate = (cr3: string, hlt = 'ACTIVITY'): Trial => ({
  yaml: `
    name: mutants
    description: A short live update with all that mutants get wrong.
    vcpus: 2
    seed: 3
    cr3: ${cr3}
    hlt: ${hlt}
    rate: 20000
    steps:
      - run: { seconds: 0.02 }
      - pause-devices: true
      - preserve: {}
      - vmm-exit: true
      - kexec:
          seconds: 0.03
          mix: busy-gap
          rate: 10000
          script: [{ vcpu: 1, at: 0.02, exit: { kind: access, gpa: 0x3d000 } }]
      - retrieve: true
      - finish: true
      - run: { seconds: 0.005, mix: busy, rate: 20000 }`,
  events: (machine) => {
    for (const begin of [ATTACHED, GAP]) {
      unusual().forEach((exit, n) => at(machine, begin + n * APART, 0, exit));
      nested(machine, begin + 16 * APART);
      nmi(machine, begin + 17 * APART, 0);
      device(machine, begin + 18 * APART);
      virtualApic(machine, begin + 19 * APART);
      singleStepped(machine, begin + 20 * APART);
    }
    nmi(machine, WAITING, 1);
    const ept = exits.eptViolation(0x5000n, 0xffff_8880_0000_5000n);
    at(machine, ATTACHED + 15 * APART, 1, whileDelivering(ept));
    const shadowed = { GUEST_INTERRUPTIBILITY_INFO: 2n };
    at(machine, ATTACHED + 16 * APART, 1, { ...exits.out(0x3f8), fields: shadowed });
  },
});

/** One more than CARETAKER_STALL_RING. */
const STALLS = 65;

/** More waits than the ring has records, in one update after the other that is cancelled. */
const manyStalls: Trial = {
  yaml: `
    name: many-stalls
    description: More blocked exits than the ring of stalls has records.
    vcpus: 1
    seed: 5
    mix: idle
    rate: 1000
    steps:
      - run: { seconds: 0.001 }
      - pause-devices: true
${Array.from(
  { length: STALLS },
  () => `
      - preserve: {}
      - gap: { seconds: 0.001, script: [{ vcpu: 0, at: 0, exit: { kind: vmcall } }] }
      - close-session: true
`,
).join('')}
      - run: { seconds: 0.001 }`,
  events: () => undefined,
};

/** Stops: attached; in the gap while the guest runs; and while an exit waits that broke off a #PF. */
const stops: Trial = {
  yaml: `
    name: stops
    description: Stop and serialize, wherever a vCPU is.
    vcpus: 2
    seed: 6
    rate: 10000
    steps:
      - run: { exits: 200 }
      - stop: { vcpu: 0 }
      - run: { exits: 200 }
      - stop: { vcpu: 1 }
      - run: { exits: 200 }
      - pause-devices: true
      - preserve: { mix: busy-gap }
      - gap:
          seconds: 0.01
          script: [{ vcpu: 1, at: 0.001, exit: { kind: access, gpa: 0x5000, delivering: page-fault } }]
      - stop: { vcpu: 0 }
      - stop: { vcpu: 1 }
      - vmm-exit: true
      - kexec: { seconds: 0.01 }
      - retrieve: true
      - finish: true
      - run: { exits: 200, mix: busy }`,
  events: () => undefined,
};

/** A built-in scenario as it is, or with a setting more. */
const builtin = (name: string, setting = ''): Trial => ({
  yaml: `${readFileSync(
    new URL(`../../emulator/machine/scenarios/${name}.yaml`, import.meta.url),
    'utf8',
  )}\n${setting}\n`,
  events: () => undefined,
});

/** The scenarios by name. */
export const TRIALS = {
  'live-update': liveUpdate('isolated'),
  'live-update-shared': liveUpdate('shared-until-detach'),
  'halt-in-root': liveUpdate('isolated', 'ROOT'),
  'many-stalls': manyStalls,
  stops,
  'stray-events': builtin('stray-events'),
  ipi: builtin('ipi'),
  'irq-fallback': builtin('irq-fallback'),
  'posted-interrupts': builtin('posted-interrupts'),
  'posted-interrupts-halted': builtin('posted-interrupts', 'hlt: ROOT'),
  'irq-fallback-halted': builtin('irq-fallback', 'hlt: ROOT'),
  'machine-check': builtin('machine-check'),
  'payload-fault': builtin('payload-fault'),
  'shadow-stack': builtin('shadow-stack'),
  'feature-mismatch': builtin('feature-mismatch'),
} as const satisfies Readonly<Record<string, Trial>>;
export type TrialName = keyof typeof TRIALS;

/** A payload in a trial, ready to run. */
export function makeTrial(name: TrialName, payload: Uint8Array): Conductor {
  const { yaml, events } = TRIALS[name];
  const conductor = new Conductor(parseScenario(yaml, `${name}.yaml`), payload, false);
  events(conductor.machine);
  return conductor;
}
