/**
 * Events from outside that nobody in the guest asked for: NMI, machine check, INIT, interrupts; at a time of the host's
 * clock, or at an exact instruction of a vCPU's next exit.
 *
 * Source: SDM, "Handling Multiple NMIs", "Machine-Check Architecture", "Spurious Interrupt"; DESIGN ("Exact points").
 * Invariant: an event is latched on the core, and the core takes it as it takes any; where one is planned for an
 * instruction that the handler does not reach, it comes right before the handler's end.
 */
import { unreachable } from '../../abi/errors.js';
import type { Lane } from './lane.js';
import type { Machine } from './machine.js';

/** An event as a scenario names it. */
export type StrayEvent =
  | { readonly kind: 'nmi' }
  /** `restartable` is RIPV: whether the interrupted context can go on. */
  | { readonly kind: 'machine-check'; readonly restartable: boolean }
  | { readonly kind: 'init' }
  /** A fixed interrupt of the host's at this core. */
  | { readonly kind: 'interrupt'; readonly vector: number }
  /** The local APIC has nothing to give any more when it is asked. */
  | { readonly kind: 'spurious-interrupt' };

/** An event that waits for an exit of its vCPU to reach an instruction, counted from HOST_RIP. */
export interface PlannedEvent {
  readonly instruction: number;
  readonly event: StrayEvent;
}

/** The event happens now, wherever the vCPU's core is. */
export function raise(
  machine: Machine,
  lane: Lane,
  event: StrayEvent,
  tsc: number = machine.now(),
): void {
  const { pcpu } = lane;
  machine.timeline.add(tsc, lane.id, `${nameOf(event)} ${placeOf(lane)}`, 2);
  switch (event.kind) {
    case 'nmi':
      pcpu.pendingNmi = true;
      return;
    case 'machine-check':
      pcpu.pendingMachineCheck = true;
      pcpu.isMachineCheckRestartable = event.restartable;
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
    default:
      unreachable(event);
  }
}

/** The event happens at an instruction of the vCPU's next exit, or of the one in which it waits. */
export function plan(lane: Lane, planned: PlannedEvent): void {
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

function nameOf(event: StrayEvent): string {
  switch (event.kind) {
    case 'nmi':
      return 'NMI';
    case 'machine-check':
      return event.restartable ? 'machine check' : 'machine check that loses its context';
    case 'init':
      return 'INIT';
    case 'interrupt':
      return `interrupt ${event.vector}`;
    case 'spurious-interrupt':
      return 'spurious interrupt';
    default:
      return unreachable(event);
  }
}

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
