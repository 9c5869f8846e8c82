/**
 * A vCPU in VMX non-root operation: what its guest does, which event comes first, and the VM exit that follows.
 *
 * Source: SDM, "VMX Non-Root Operation", "VM Exits"; emulator/vmx/events.ts for the priority of events.
 * Invariant: the guest's clock is the core's; an exit is delivered at the tick at which it happens.
 */
import { EXIT_REASON } from '../../abi/exit-reasons.js';
import { ACTIVITY, VECTOR } from '../../abi/interruption.js';
import { VMCS_SLOT, type FieldName } from '../../abi/vmcs-fields.js';
import { REG, type RegisterName } from '../cpu/registers.js';
import { Random, type RandomState } from '../clock/random.js';
import { eoiInduced } from '../guest/exits.js';
import type { GuestAccesses, GuestAction, GuestExit, GuestView } from '../guest/guest.js';
import {
  endDebugTraps,
  endNmiBlocking,
  endShadow,
  isShadowed,
  nextEvent,
  type NextEvent,
} from '../vmx/events.js';
import { accessGuestMemory } from '../vmx/ept/guest-access.js';
import { VirtualApic } from '../vmx/virtual-apic.js';
import { signalMachineCheck } from '../vmx/root/pending-events.js';
import { deliverExit, type VmExit } from '../vmx/vm-exit.js';
import { CARETAKER_ATTACH_STATE, CARETAKER_CCB } from '../../abi/ccb.js';
import { offsetsOf } from '../../abi/layout.js';
import { accessApic } from './guest-apic.js';
import { machineCheckSeverity, noteMachineCheckExit } from './interposed-events.js';
import { noteIntent } from './guest-intent.js';
import { exitsToKvm } from './kvm-exits.js';
import type { Lane } from './lane.js';
import type { Machine } from './machine.js';
import { pendingEvents } from './wake.js';

const ATTACH_STATE = offsetsOf<'attach_state'>(CARETAKER_CCB).attach_state;
/** Guest code addresses: exits come from anywhere in a kernel's text. */
const GUEST_TEXT_HIGH = 0xffff_ffff;
const GUEST_TEXT_LOW = 0x8100_0000;
/** Bytes of the store with which a guest rings a doorbell. */
const STORE_LENGTH = 3;
/** From one page to the next. */
const ACCESS_TICKS = 200;

export class GuestRunner {
  readonly #machine: Machine;
  readonly #random: Random;

  constructor(machine: Machine) {
    this.#machine = machine;
    this.#random = new Random(machine.config.seed ^ 0x5eed);
  }

  state(): RandomState {
    return this.#random.state();
  }

  restore(state: RandomState): void {
    this.#random.restore(state);
  }

  /** Something is due: an event from outside, the timer, or what the guest itself planned. */
  step(lane: Lane): void {
    const { pcpu } = lane;
    pcpu.clock.advanceTo(this.#machine.now());
    if (pcpu.now() >= pcpu.apic.nextTsc) pcpu.apic.tick();
    if (pcpu.now() > lane.vmcs.entryTsc && isShadowed(lane.vmcs)) endShadow(lane.vmcs);
    if (this.#takeEvent(lane)) return;
    if (pcpu.now() >= lane.actionTsc) this.#act(lane);
  }

  /** The guest does this next, whatever it had in mind; one that is halted was woken. */
  script(lane: Lane, action: GuestAction): void {
    lane.scripted.push(action);
    if (lane.phase !== 'guest') return;
    if (hasOwnPlan(lane)) {
      const after = Math.max(0, lane.actionTsc - this.#machine.now());
      lane.scripted.push({ ...lane.action, after });
    }
    lane.vmcs.setLow(VMCS_SLOT.GUEST_ACTIVITY_STATE, ACTIVITY.ACTIVE);
    lane.pcpu.clock.advanceTo(this.#machine.now());
    this.plan(lane);
  }

  /** The guest has been entered: it goes on with what it was about to do, unless that was to wait for an event. */
  entered(lane: Lane, vector: number | null): void {
    this.#goOn(lane, vector !== null);
    const handler = vector === null ? null : (lane.guest.handle?.(vector) ?? null);
    if (handler !== null) this.#preempt(lane, handler);
  }

  /** An interrupt's handler comes before what the guest was about to do. */
  #preempt(lane: Lane, handler: GuestAction): void {
    if (hasOwnPlan(lane)) {
      const after = Math.max(0, lane.actionTsc - lane.pcpu.now());
      lane.scripted.unshift({ ...lane.action, after });
    }
    lane.scripted.unshift(handler);
    this.plan(lane);
  }

  #goOn(lane: Lane, isInterrupted: boolean): void {
    if (lane.action?.kind === 'access' && lane.action.exitedAt !== undefined)
      this.#afterExit(lane, lane.action);
    else if (lane.action === null || lane.action.kind === 'wait') this.plan(lane);
    else if (isInterrupted && !hasOwnPlan(lane)) this.plan(lane);
  }

  /** The guest was entered, or did something without an exit: asks it what comes next. */
  plan(lane: Lane): void {
    const action = lane.scripted.shift() ?? lane.guest.next(this.#view(lane));
    lane.action = action;
    lane.actionTsc = 'after' in action ? lane.pcpu.now() + action.after : Infinity;
  }

  /** Takes the event of highest priority, if one is pending and not masked. */
  #takeEvent(lane: Lane): boolean {
    const event = nextEvent(lane.vmcs, pendingEvents(lane));
    return event.kind !== 'none' && this.#take(lane, event);
  }

  /** Whether an event ends the guest's stay. */
  #take(lane: Lane, event: Exclude<NextEvent, { kind: 'none' }>): boolean {
    const { pcpu } = lane;
    switch (event.kind) {
      case 'delivered':
        this.#deliverToGuest(lane, event);
        return false;
      case 'virtual':
        this.#deliverVirtual(lane);
        return false;
      case 'notification':
        pcpu.apic.acknowledge();
        pcpu.apic.eoi();
        new VirtualApic(pcpu.memory, lane.vmcs).processPosted();
        this.#machine.count('notificationsProcessed');
        return this.#takeEvent(lane);
      case 'exit':
        return this.#takeExit(lane, event);
    }
  }

  #takeExit(lane: Lane, event: Extract<NextEvent, { kind: 'exit' }>): boolean {
    const { pcpu } = lane;
    if (event.acknowledged !== null) pcpu.apic.acknowledge();
    if (event.exit.basic === EXIT_REASON.EXIT_REASON_INIT_SIGNAL) pcpu.pendingInit = false;
    if (event.exit.basic === EXIT_REASON.EXIT_REASON_EXCEPTION_NMI) {
      if (pcpu.pendingMachineCheck) {
        if (!this.#signalMachineCheck(lane)) return true;
      } else if ((event.exit.interruptionInfo! & 0xff) === VECTOR.DB) {
        lane.vmcs.setLow(VMCS_SLOT.GUEST_PENDING_DBG_EXCEPTIONS, 0);
        this.#machine.count('debugTraps');
      } else {
        pcpu.pendingNmi = false;
        this.#machine.count('nmisDelivered');
      }
    }
    this.#exit(lane, event.exit);
    return true;
  }

  /** Through the guest's IDT, with no VM exit, and out of a halt. */
  #deliverVirtual(lane: Lane): void {
    const machine = this.#machine;
    const vector = new VirtualApic(lane.pcpu.memory, lane.vmcs).deliver();
    lane.vmcs.setLow(VMCS_SLOT.GUEST_ACTIVITY_STATE, ACTIVITY.ACTIVE);
    machine.count('virtualInterruptsDelivered');
    machine.interruptDelivered(lane, vector);
    const handler = lane.guest.handle?.(vector) ?? null;
    if (handler !== null) this.#preempt(lane, handler);
    else if (!hasOwnPlan(lane)) this.plan(lane);
  }

  /** An access to the local APIC that the processor virtualizes: false where it is a VM exit like any other. */
  #virtualized(lane: Lane, exit: GuestExit): boolean {
    const access = accessApic(lane, exit);
    if (access.kind === 'no') return false;
    if (access.kind === 'eoi-exit') {
      this.#guestExit(lane, eoiInduced(access.vector));
      return true;
    }
    this.#machine.count('apicAccessesVirtualized');
    lane.action = null;
    lane.actionTsc = Infinity;
    if (!this.#takeEvent(lane) && lane.action === null) this.plan(lane);
    return true;
  }

  /** Without the control that makes it a VM exit, the event goes through the guest's own IDT and ends its halt. */
  #deliverToGuest(lane: Lane, event: Extract<NextEvent, { kind: 'delivered' }>): void {
    const { pcpu } = lane;
    if (event.source === 'external') pcpu.apic.acknowledge();
    else if (event.source === 'nmi') pcpu.pendingNmi = false;
    else if (event.source === 'debug') endDebugTraps(lane.vmcs);
    else if (!this.#signalMachineCheck(lane)) return;
    lane.vmcs.setLow(VMCS_SLOT.GUEST_ACTIVITY_STATE, ACTIVITY.ACTIVE);
    lane.guest.onEvent(event.vector);
    if (!hasOwnPlan(lane)) this.plan(lane);
  }

  /** False when the core shuts down: the machine check before is still in progress, because nobody cleared MCIP. */
  #signalMachineCheck(lane: Lane): boolean {
    this.#machine.count('machineChecksDelivered');
    if (signalMachineCheck(lane.pcpu)) return true;
    this.#machine.ledger.fail(
      'nmi',
      lane.rip,
      `vCPU ${lane.id}: a machine check came with MCIP still set by the one before, and the core shuts down`,
    );
    lane.phase = 'stopped';
    return false;
  }

  #act(lane: Lane): void {
    const { action, pcpu, vmcs } = lane;
    if (action === null) return;
    switch (action.kind) {
      case 'exit': {
        const fields = action.exit.fields;
        if (fields !== undefined) {
          this.#setFields(lane, fields);
          // What the guest changed may have opened a window, and that exit comes first.
          const event = nextEvent(lane.vmcs, pendingEvents(lane));
          if (event.kind !== 'none') {
            const { GUEST_RIP } = fields;
            const left = { ...action, exit: { ...action.exit, fields: { GUEST_RIP } } };
            lane.action = left;
            // An interrupt's handler comes before it, too.
            if (this.#take(lane, event) || lane.action !== left) return;
          }
        }
        if (!this.#virtualized(lane, action.exit)) this.#guestExit(lane, action.exit);
        return;
      }
      case 'access':
        this.#access(lane, action);
        return;
      case 'interrupt':
        pcpu.apic.request(action.vector);
        this.assertRouted(lane, action.vector);
        this.#machine.count('deviceInterrupts');
        lane.action = null;
        lane.actionTsc = Infinity;
        if (!this.#takeEvent(lane) && lane.action === null) this.plan(lane);
        return;
      case 'wake':
        vmcs.setLow(VMCS_SLOT.GUEST_ACTIVITY_STATE, ACTIVITY.ACTIVE);
        this.#machine.count('postedInterruptWakes');
        this.plan(lane);
        return;
      case 'iret':
        endNmiBlocking(vmcs);
        lane.action = null;
        lane.actionTsc = Infinity;
        if (!this.#takeEvent(lane) && lane.action === null) this.plan(lane);
        return;
      case 'wait':
      case 'done':
        lane.actionTsc = Infinity;
        return;
    }
  }

  /** One page: through the cached translations or the tables, or a VM exit that leaves the access to be tried again. */
  #access(lane: Lane, action: GuestAccesses): void {
    const { fields, access } = action;
    if (fields !== undefined) {
      this.#setFields(lane, fields);
      const left = { ...action, fields: undefined };
      lane.action = left;
      if (this.#takeEvent(lane) || lane.action !== left) return;
    }
    const result = accessGuestMemory(lane.pcpu, lane.vmcs, access);
    this.#machine.count('guestAccesses');
    if (result.kind === 'done') {
      this.#machine.hooks.atAccess(lane, this.#machine.ledger, access, result.hpa);
      this.#nextPage(lane, action);
      return;
    }
    this.#scramble(lane);
    lane.action = { ...action, fields: undefined, exitedAt: lane.vmcs.get(VMCS_SLOT.GUEST_RIP) };
    lane.actionTsc = Infinity;
    const { exit } = result;
    // Not architectural; KVM relies on it all the same (vmx.c: skip_emulated_instruction()).
    const isMmio = exit.basic === EXIT_REASON.EXIT_REASON_EPT_MISCONFIG;
    this.#exit(lane, isMmio ? { ...exit, instructionLength: STORE_LENGTH } : exit);
  }

  /** The instruction was emulated, or the guest is at it again. */
  #afterExit(lane: Lane, action: GuestAccesses): void {
    const { exitedAt, ...again } = action;
    if (lane.vmcs.get(VMCS_SLOT.GUEST_RIP) !== exitedAt) {
      this.#nextPage(lane, again);
      return;
    }
    lane.action = again;
    lane.actionTsc = lane.pcpu.now() + 1;
  }

  #nextPage(lane: Lane, action: GuestAccesses): void {
    if (action.pages === 1) {
      this.plan(lane);
      return;
    }
    const { gpa, gla } = action.access;
    const access = { ...action.access, gpa: gpa + 0x1000n, gla: gla + 0x1000n };
    lane.action = { ...action, access, pages: action.pages - 1 };
    lane.actionTsc = lane.pcpu.now() + ACCESS_TICKS;
  }

  #guestExit(lane: Lane, exit: GuestExit): void {
    this.#scramble(lane);
    const { registers, fields } = exit;
    if (fields?.GUEST_RIP !== undefined) lane.vmcs.write('GUEST_RIP', fields.GUEST_RIP);
    if (registers !== undefined) {
      for (const name in registers) {
        const value = registers[name as RegisterName];
        if (value !== undefined) lane.pcpu.registers.set(name as RegisterName, value);
      }
    }
    noteIntent(this.#machine, lane, exit);
    lane.action = null;
    this.#exit(lane, exit);
  }

  /** VM exit: hardware first, then the invariants' look at the fresh exit, then the payload or KVM's own handler. */
  #exit(lane: Lane, exit: VmExit): void {
    const { pcpu, vmcs } = lane;
    const delivered = deliverExit(pcpu, vmcs, exit);
    if (delivered.kind === 'abort') {
      this.#machine.ledger.fail(
        'host-state',
        lane.rip,
        `vCPU ${lane.id}: VMX abort ${delivered.code}: ${delivered.rule}`,
      );
      lane.phase = 'stopped';
      return;
    }
    if (exitsToKvm(this.#machine, lane)) return;
    const { exit: record } = lane;
    record.begin(pcpu.registers, vmcs);
    record.apic.take(lane.memory.words, lane.softState >>> 2);
    record.tsc = pcpu.now();
    record.instructions = pcpu.engine.counters.instructions;
    if (record.isMachineCheck) {
      noteMachineCheckExit(lane);
      record.severity = machineCheckSeverity(lane);
      if (record.severity !== 'survivable') record.mayEnd = true;
    }
    record.wasAttached =
      lane.memory.words[(lane.ccb + ATTACH_STATE) >>> 2] === CARETAKER_ATTACH_STATE.KVM_ATTACHED;
    this.#machine.hooks.atExit(lane, this.#machine.ledger);
    lane.beginAccesses();
    lane.inExit = true;
    lane.phase = 'payload';
    this.#machine.step(lane);
  }

  #setFields(lane: Lane, fields: NonNullable<GuestExit['fields']>): void {
    for (const name in fields) {
      const value = fields[name as FieldName];
      if (value !== undefined) lane.vmcs.write(name as FieldName, value);
    }
  }

  /** Between two exits a guest runs: its registers hold other values and it is somewhere else. */
  #scramble(lane: Lane): void {
    const { words } = lane.pcpu.registers;
    for (let word = 0; word < 32; word++) {
      if (word >>> 1 !== REG.RSP) words[word] = this.#random.nextU32();
    }
    const { vmcs } = lane;
    vmcs.setHalves(
      VMCS_SLOT.GUEST_RIP,
      (GUEST_TEXT_LOW + this.#random.below(0x80_0000)) >>> 0,
      GUEST_TEXT_HIGH,
    );
  }

  /** A device's interrupt that KVM, or the payload in its place, forwards to a guest. */
  assertRouted(lane: Lane, hostVector: number): void {
    const route = this.#machine.irqRoutes.find((r) => r.hostVector === hostVector);
    const target = this.#machine.lanes.find((one) => one.id === route?.vcpuId);
    if (route !== undefined && target !== undefined)
      target.interrupts.assert(route.guestVector, lane.pcpu.now());
  }

  #view(lane: Lane): GuestView {
    const { vmcs } = lane;
    return {
      vcpuId: lane.id,
      tsc: lane.pcpu.now() + lane.tscOffset,
      isHalted: vmcs.low(VMCS_SLOT.GUEST_ACTIVITY_STATE) === ACTIVITY.HLT,
      isInterruptible: (vmcs.low(VMCS_SLOT.GUEST_RFLAGS) & 0x200) !== 0,
      hasDeadline: lane.deadlineTsc() !== null,
    };
  }
}

/** Whether the guest means to do something of its own, which an event or a script delays and never takes away. */
function hasOwnPlan(
  lane: Lane,
): lane is Lane & { action: Extract<GuestAction, { kind: 'exit' | 'interrupt' | 'access' }> } {
  const kind = lane.action?.kind;
  return kind === 'exit' || kind === 'interrupt' || kind === 'access';
}
