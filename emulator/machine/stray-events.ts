/**
 * Events that nobody in the guest asked for: NMI, machine check, INIT, interrupts, and an instruction of the payload's that
 * faults; at a time of the host's clock, or at an exact instruction of a vCPU's next exit.
 *
 * Source: SDM, "Handling Multiple NMIs", "Machine-Check Architecture", "Spurious Interrupt", "Masking Exceptions and
 * Interrupts When Switching Stacks"; DESIGN ("Exact points").
 * Invariant: an event is latched on the core, and the core takes it as it takes any; where one is planned for an
 * instruction that the handler does not reach, it comes right before the handler's end.
 */
import { unreachable } from '../../abi/errors.js';
import { ACTIVITY, INTERRUPTIBILITY, VECTOR } from '../../abi/interruption.js';
import { VMCS_SLOT } from '../../abi/vmcs-fields.js';
import { fault } from '../vmx/root/outcome.js';
import type { LoggedError } from '../vmx/root/machine-check.js';
import type { Lane } from './lane.js';
import type { Machine } from './machine.js';
import { nextPollTsc } from './wake.js';

/** An event as a scenario names it. */
export type StrayEvent =
  | {
      readonly kind: 'nmi';
      /** The guest, if it runs and is not halted, has just executed STI or MOV SS. */
      readonly shadow?: 'sti' | 'mov-ss' | undefined;
    }
  /** `restartable` is RIPV: whether the interrupted context can go on; `error` is what its bank says besides. */
  | {
      readonly kind: 'machine-check';
      readonly restartable: boolean;
      readonly error?: LoggedError | undefined;
    }
  | { readonly kind: 'init' }
  /** A fixed interrupt of the host's at this core. */
  | { readonly kind: 'interrupt'; readonly vector: number }
  /** The local APIC has nothing to give any more when it is asked. */
  | { readonly kind: 'spurious-interrupt' }
  /** The payload's next instruction faults. */
  | {
      readonly kind: 'exception';
      readonly vector: FaultName;
      readonly errorCode: number;
      /** CR2 of a page fault. */
      readonly address: bigint;
    };

/** Faults that an instruction of ring 0 may raise for no reason that its text shows. */
export const FAULT_NAMES = ['UD', 'NP', 'SS', 'GP', 'PF'] as const;
export type FaultName = (typeof FAULT_NAMES)[number];

/** Something that software on another core does: KVM that comes back, or that asks for a stop. */
export interface HostAct {
  readonly kind: 'host-act';
  readonly name: string;
  readonly act: () => void;
}

/** An event that waits for an exit of its vCPU to reach an instruction, counted from HOST_RIP. */
export interface PlannedEvent {
  readonly instruction: number;
  readonly event: StrayEvent | HostAct;
  /** Of a series, one waits at a time. */
  readonly series?: object;
}

/** The event happens now, wherever the vCPU's core is. */
export function raise(
  machine: Machine,
  lane: Lane,
  event: StrayEvent | HostAct,
  tsc: number = machine.now(),
): void {
  const { pcpu } = lane;
  if (event.kind === 'exception' && !isExecutingPayload(lane)) {
    plan(lane, { instruction: 0, event });
    return;
  }
  machine.timeline.add(tsc, lane.id, `${nameOf(event)} ${placeOf(lane)}`, 2);
  switch (event.kind) {
    case 'nmi':
      raiseNmi(machine, lane, event.shadow);
      return;
    case 'machine-check':
      pcpu.pendingMachineCheck = true;
      pcpu.isMachineCheckRestartable = event.restartable;
      pcpu.machineCheckError = event.error ?? null;
      return;
    case 'init':
      pcpu.pendingInit = true;
      return;
    case 'interrupt':
      pcpu.apic.request(event.vector);
      machine.guests.assertRouted(lane, event.vector);
      return;
    case 'spurious-interrupt':
      pcpu.apic.raiseSpurious();
      return;
    case 'exception':
      raiseFault(machine, lane, event);
      return;
    case 'host-act':
      event.act();
      return;
    default:
      unreachable(event);
  }
}

/** One NMI is latched while NMIs are blocked, and no more. */
function raiseNmi(machine: Machine, lane: Lane, shadow: 'sti' | 'mov-ss' | undefined): void {
  const { pcpu, vmcs } = lane;
  if (pcpu.pendingNmi) machine.count('nmisMerged');
  else if (pcpu.blocking.nmi) machine.count('nmisLatched');
  pcpu.pendingNmi = true;
  if (shadow === undefined || lane.phase !== 'guest') return;
  if (vmcs.low(VMCS_SLOT.GUEST_ACTIVITY_STATE) !== ACTIVITY.ACTIVE) return;
  const bit = shadow === 'sti' ? INTERRUPTIBILITY.STI : INTERRUPTIBILITY.MOV_SS;
  vmcs.setLow(VMCS_SLOT.GUEST_INTERRUPTIBILITY_INFO, bit);
  // STI shadows an interruptible guest only.
  if (shadow === 'sti')
    vmcs.setLow(VMCS_SLOT.GUEST_RFLAGS, vmcs.low(VMCS_SLOT.GUEST_RFLAGS) | RFLAGS_IF);
  pcpu.clock.advanceTo(machine.now());
  vmcs.entryTsc = pcpu.now();
  machine.count('nmisInShadow');
}

/** Hardware refuses the instruction at RIP, as it does with memory that is no longer what it was. */
function raiseFault(
  machine: Machine,
  lane: Lane,
  { vector, errorCode, address }: Extract<StrayEvent, { kind: 'exception' }>,
): void {
  const { pcpu } = lane;
  if (lane.phase === 'waiting') {
    pcpu.clock.advanceTo(nextPollTsc(lane, machine.now()));
    lane.phase = 'payload';
  }
  const hasErrorCode = vector !== 'UD';
  lane.faultIsForced = true;
  const stop = pcpu.raise({
    ...fault(VECTOR[vector], hasErrorCode ? errorCode : null),
    address: vector === 'PF' ? address : null,
  });
  lane.faultIsForced = false;
  machine.count('faultsOfPayloads');
  if (stop !== null) pcpu.requestStop(stop);
}

const isExecutingPayload = ({ phase }: Lane): boolean => phase === 'payload' || phase === 'waiting';

/**
 * The event happens at an instruction of the vCPU's next exit, or of the one in which it waits; never, if another of its
 * series still waits.
 */
export function plan(lane: Lane, planned: PlannedEvent): void {
  const { series } = planned;
  if (series !== undefined && lane.planned.some((one) => one.series === series)) return;
  lane.planned.push(planned);
  lane.planned.sort((a, b) => a.instruction - b.instruction);
}

/** The core's count of instructions at which the next planned event is due, Infinity without one. */
export function nextPlannedAt(lane: Lane): number {
  const [next] = lane.planned;
  return next === undefined || !lane.inExit ? Infinity : lane.exit.instructions + next.instruction;
}

/** Raises the planned events that are due; at the end of an exit all of them are. */
export function raiseDue(machine: Machine, lane: Lane, isEnd = false): void {
  if (lane.planned.length === 0 || !lane.inExit) return;
  while (isEnd || nextPlannedAt(lane) <= lane.engine.counters.instructions) {
    const due = lane.planned.shift();
    if (due === undefined) return;
    raise(machine, lane, due.event, lane.pcpu.now());
  }
}

/** The same where the exit has gone to KVM: what only the payload's own instructions can do waits for its next exit. */
export function raiseDueInKvm(machine: Machine, lane: Lane): void {
  if (lane.planned.length === 0 || !lane.inExit) return;
  const forPayload = lane.planned.filter(({ event }) => event.kind === 'exception');
  const forCore = lane.planned.filter(({ event }) => event.kind !== 'exception');
  lane.planned.splice(0, Infinity, ...forPayload);
  for (const { event } of forCore) raise(machine, lane, event, lane.pcpu.now());
}

/** Between a routed exit and VM entry KVM's IDT is in use: what comes then is its own. */
export function hostTakes(machine: Machine, lane: Lane): void {
  const { pcpu } = lane;
  if (pcpu.pendingNmi) {
    pcpu.pendingNmi = false;
    machine.count('nmisTakenByHost');
  }
  if (pcpu.pendingMachineCheck) {
    pcpu.pendingMachineCheck = false;
    machine.count('machineChecksTakenByHost');
  }
}

function nameOf(event: StrayEvent | HostAct): string {
  switch (event.kind) {
    case 'nmi':
      return 'NMI';
    case 'machine-check':
      if (!event.restartable) return 'machine check that loses its context';
      return event.error === undefined ? 'machine check' : `machine check (${event.error})`;
    case 'init':
      return 'INIT';
    case 'interrupt':
      return `interrupt ${event.vector}`;
    case 'spurious-interrupt':
      return 'spurious interrupt';
    case 'exception':
      return `#${event.vector} of the payload's own`;
    case 'host-act':
      return event.name;
    default:
      return unreachable(event);
  }
}

const RFLAGS_IF = 0x200;
const WAITING = 'while the vCPU waits for KVM';

function placeOf(lane: Lane): string {
  switch (lane.phase) {
    case 'guest':
      return 'while the guest runs';
    case 'payload':
      if (lane.exit.outcome === 'blocked') return WAITING;
      return `at instruction ${lane.engine.counters.instructions - lane.exit.instructions} of the handler`;
    case 'waiting':
      return WAITING;
    case 'halted':
      return 'while the core is halted';
    case 'in-kvm':
      return 'while the vCPU is in KVM';
    case 'stopped':
      return 'after the core has stopped';
    default:
      return unreachable(lane.phase);
  }
}
