/**
 * When a vCPU does its next thing: what wakes a core that polls, is halted, or is in the guest.
 *
 * Source: DESIGN ("Spin fast-forward", "Deterministic time").
 * Invariant: a pure function of the lane and of the host's time; a wait ends at a poll and nowhere between two.
 */
import { CARETAKER_ATTACH_STATE, CARETAKER_CCB, CARETAKER_RUN_STATE } from '../../abi/ccb.js';
import { offsetsOf } from '../../abi/layout.js';
import { REG } from '../cpu/registers.js';
import { isShadowed, nextEvent, pendingDebugTraps, type PendingEvents } from '../vmx/events.js';
import type { Pcpu } from '../vmx/pcpu.js';
import { deliversVirtualInterrupts, VirtualApic } from '../vmx/virtual-apic.js';
import type { Lane } from './lane.js';

/** RFLAGS.IF in the low half of its slot. */
const RFLAGS_IF = 0x200;
const ATTACH_STATE = offsetsOf<'attach_state' | 'request' | 'state'>(CARETAKER_CCB);

/** When a lane does its next thing, Infinity while something else must happen first. */
export function nextTscOf(lane: Lane, hostTsc: number): number {
  switch (lane.phase) {
    case 'payload':
      return lane.pcpu.now();
    case 'guest':
      return guestTsc(lane);
    case 'waiting':
      return isWoken(lane) ? nextPollTsc(lane, hostTsc) : Infinity;
    case 'halted':
      return isTaken(lane.pcpu) ? lane.pcpu.now() : lane.pcpu.apic.nextTsc;
    case 'in-kvm':
    case 'stopped':
      return Infinity;
  }
}

/** A wait ends with the first poll after what ended it: time moves by whole polls. */
export function nextPollTsc(lane: Lane, hostTsc: number): number {
  const now = lane.pcpu.now();
  return now + Math.max(0, Math.ceil((hostTsc - now) / lane.pollTicks)) * lane.pollTicks;
}

function guestTsc(lane: Lane): number {
  if (pendingDebugTraps(lane.vmcs) !== 0) return lane.pcpu.now();
  if (isPending(lane.pcpu) || deliversVirtualInterrupts(lane.vmcs)) {
    if (nextEvent(lane.vmcs, pendingEvents(lane)).kind !== 'none') return lane.pcpu.now();
    // The guest's next instruction ends a shadow of STI or MOV SS.
    if (isShadowed(lane.vmcs)) return Math.max(lane.pcpu.now(), lane.vmcs.entryTsc + 1);
  }
  return Math.min(lane.actionTsc, lane.timerTsc, lane.pcpu.apic.nextTsc);
}

/** What waits for the core of a lane that is in the guest. */
export function pendingEvents({ pcpu, timerTsc, vmcs }: Lane): PendingEvents {
  const vector = pcpu.apic.deliverable;
  return {
    virtualInterrupt:
      deliversVirtualInterrupts(vmcs) && new VirtualApic(pcpu.memory, vmcs).isPending,
    machineCheck: pcpu.pendingMachineCheck,
    init: pcpu.pendingInit,
    nmi: pcpu.pendingNmi,
    timerExpired: pcpu.now() >= timerTsc,
    externalInterrupt: vector >= 0 ? vector : undefined,
  };
}

function isPending(pcpu: Pcpu): boolean {
  return (
    pcpu.pendingNmi || pcpu.pendingMachineCheck || pcpu.pendingInit || pcpu.apic.deliverable >= 0
  );
}

/** Whether a core in VMX root operation takes what waits for it: an NMI that is blocked stays pending, and so does INIT. */
function isTaken(pcpu: Pcpu): boolean {
  const isOpen = (pcpu.registers.words[2 * REG.RFLAGS]! & RFLAGS_IF) !== 0;
  return (
    pcpu.pendingMachineCheck ||
    (pcpu.pendingNmi && !pcpu.blocking.nmi) ||
    (pcpu.pendingInit && pcpu.vmx.mode === 'off') ||
    (isOpen && pcpu.apic.deliverable >= 0)
  );
}

/** The wake set of a payload that polls: its flag, a request, and what its core takes. */
function isWoken(lane: Lane): boolean {
  const { words } = lane.memory;
  return (
    words[(lane.ccb + ATTACH_STATE.attach_state) >>> 2] === CARETAKER_ATTACH_STATE.KVM_ATTACHED ||
    (words[(lane.ccb + ATTACH_STATE.request) >>> 2] !== 0 && !hasStopped(lane)) ||
    isTaken(lane.pcpu)
  );
}

/** One that has served a stop request waits for the flag alone. */
function hasStopped(lane: Lane): boolean {
  return payloadStateOf(lane) === CARETAKER_RUN_STATE.SERIALIZED;
}

/** What the payload of a lane says of itself. */
export function payloadStateOf(lane: Lane): number {
  return lane.memory.words[(lane.ccb + ATTACH_STATE.state) >>> 2]!;
}
