/**
 * What a guest asks for with an exit, as the architecture has it: each timer it arms and each IPI it sends may be delivered
 * once, at whom it names.
 *
 * Source: SDM, "Local APIC Timer", "Interrupt Command Register (ICR)", "SELF IPI register".
 * Invariant: noted before the payload or KVM sees the exit, from the guest's registers alone.
 * Not modelled: what INIT and SIPI do to a vCPU; nothing is owed for them.
 */
import { EXIT_REASON } from '../../abi/exit-reasons.js';
import { VECTOR } from '../../abi/interruption.js';
import { MSR } from '../../abi/msrs.js';
import { PV_MSR } from '../../abi/pv-clock.js';
import { joinHalves } from '../../abi/uint.js';
import { decodeIcr, hasReservedBits, LVT, X2APIC } from '../../abi/x2apic.js';
import { REG } from '../cpu/registers.js';
import type { VmExit } from '../vmx/vm-exit.js';
import { addressed, logicalIdOf, requestOf } from '../vmx/root/ipi-destination.js';
import type { Lane, LanePhase } from './lane.js';
import type { Machine } from './machine.js';

/** Notes what the exit that the guest is about to make asks for. */
export function noteIntent(machine: Machine, lane: Lane, exit: VmExit): void {
  if (exit.basic !== EXIT_REASON.EXIT_REASON_MSR_WRITE) return;
  const { words } = lane.pcpu.registers;
  const low = words[2 * REG.RAX]!;
  const high = words[2 * REG.RDX]!;
  switch (words[2 * REG.RCX]!) {
    case MSR.IA32_TSC_DEADLINE:
      lane.isTimerDisarmed = joinHalves(high, low) === 0n;
      if (!lane.isTimerDisarmed)
        lane.interrupts.assert(lane.vcpu.softState.number('lvt_timer') & 0xff, lane.pcpu.now());
      return;
    case X2APIC.LVT_TIMER:
      // A write that is #GP asks for nothing.
      if (!hasReservedBits(X2APIC.LVT_TIMER, joinHalves(high, low))) noteTimer(lane, low);
      return;
    case X2APIC.SELF_IPI:
      if (!hasReservedBits(X2APIC.SELF_IPI, joinHalves(high, low)))
        lane.interrupts.assert(low, lane.pcpu.now());
      return;
    case X2APIC.ICR:
      noteIpi(machine, lane, low, high);
      return;
    case PV_MSR.SYSTEM_TIME:
      machine.count('pvClocksSwitchedOn');
      return;
    default:
  }
}

/** A change of mode disarms the timer, and with it goes what it owes; with another vector it owes that one. */
function noteTimer(lane: Lane, low: number): void {
  const soft = lane.vcpu.softState;
  const before = soft.number('lvt_timer');
  if (((before ^ low) & (LVT.TIMER_MODE_MASK | LVT.VECTOR_MASK)) === 0) return;
  lane.interrupts.release(before & 0xff);
  if (((before ^ low) & LVT.TIMER_MODE_MASK) !== 0) lane.isTimerDisarmed = true;
  else if (soft.get('tsc_deadline') !== 0n) lane.interrupts.assert(low & 0xff, lane.pcpu.now());
}

/** The vCPUs that an ICR write of this one addresses. */
export function ipiTargets(lane: Lane, low: number, high: number): readonly Lane[] {
  const all = lane.peers().map((one) => ({
    id: one.vcpu.apicId,
    logicalId: logicalIdOf(one.vcpu.apicId),
    lane: one,
  }));
  return addressed(all, lane.vcpu.apicId, decodeIcr(low, high)).map((one) => one.lane);
}

function noteIpi(machine: Machine, lane: Lane, low: number, high: number): void {
  const request = requestOf(low, high);
  machine.count('ipisSent');
  const now = lane.pcpu.now();
  switch (request.kind) {
    case 'fixed':
      for (const target of ipiTargets(lane, low, high)) {
        target.interrupts.assert(request.vector, now);
        machine.count(TO[target.phase]);
      }
      return;
    case 'lowest-priority':
      machine.count('ipisOfLowestPriority');
      // Which of them takes it is not the sender's to say; that one does, the interrupts invariant looks at.
      for (const target of ipiTargets(lane, low, high)) target.interrupts.allow(request.vector);
      return;
    case 'nmi':
      for (const target of ipiTargets(lane, low, high)) {
        target.interrupts.assert(VECTOR.NMI, now);
        machine.count('nmisToGuests');
      }
      return;
    case 'init':
    case 'startup':
    case 'smi':
      machine.count('ipisForKvm');
      return;
    case 'fault':
    case 'none':
  }
}

/** A fixed IPI by what its target does at the moment. */
const TO: Readonly<Record<LanePhase, string>> = {
  guest: 'ipisToGuest',
  payload: 'ipisToPayload',
  waiting: 'ipisToWaiting',
  halted: 'ipisToHaltedCore',
  'in-kvm': 'ipisToKvm',
  stopped: 'ipisToStopped',
};
