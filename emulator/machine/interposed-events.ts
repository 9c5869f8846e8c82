/**
 * NMIs, machine checks and faults that a payload takes in an exit, through its own IDT or because they caused it: noted, so
 * that what becomes of them can be judged.
 *
 * Source: CONTRACT ("What the payload handles", "CR3 policies"); SDM, "Interrupt Stack Table", "Machine-Check
 * Architecture".
 * Invariant: an event is the host's when KVM_ATTACHED was set as it came, and the payload's to count otherwise.
 */
import { CARETAKER_ATTACH_STATE, CARETAKER_CCB } from '../../abi/ccb.js';
import { VECTOR } from '../../abi/interruption.js';
import { offsetsOf } from '../../abi/layout.js';
import { MSR } from '../../abi/msrs.js';
import { REG } from '../cpu/registers.js';
import { isShadowStackOn } from '../vmx/root/control-flow.js';
import type { DeliveryEvent, DeliveryResult } from '../vmx/root/idt-delivery.js';
import { severityOf, type Severity } from '../vmx/root/machine-check.js';
import type { Fault } from '../vmx/root/outcome.js';
import type { FatalEvent } from './exit-record.js';
import type { Lane } from './lane.js';
import type { Machine } from './machine.js';

const ATTACH_STATE = offsetsOf<'attach_state'>(CARETAKER_CCB).attach_state;
/** RIP, CS, RFLAGS, RSP and SS; RSP is the fourth. */
const FRAME_BYTES = 40n;
const FRAME_RSP = 24n;
const MAX_IST_BYTES = 4096n;

/** An event went through the payload's IDT. */
export function onDelivery(
  machine: Machine,
  lane: Lane,
  event: DeliveryEvent,
  interrupted: bigint,
  result: DeliveryResult,
): void {
  // A poll that a handler interrupted is none to measure the others by.
  lane.poll.site = -1n;
  if (result.kind === 'delivered' && isShadowStackOn(lane.pcpu)) machine.count('shadowStackFrames');
  const isMachineCheck = event.kind === 'exception' && event.vector === VECTOR.MC;
  if (event.kind !== 'nmi' && !isMachineCheck) return;
  machine.count(isMachineCheck ? 'machineChecksDelivered' : 'nmisDelivered');
  if (!lane.inExit) return;
  const { exit } = lane;
  if (isMachineCheck) {
    exit.machineChecks++;
    if (isAttached(lane)) exit.hostMachineChecks++;
    // Where an NMI's handler runs its IRET would come too early, so a payload may give up there.
    if (machineCheckSeverity(lane) !== 'survivable') exit.mustPark = exit.mayEnd = true;
    if (lane.pcpu.blocking.nmi) exit.mayEnd = true;
    noteMachineCheck(lane, interrupted);
    if (result.kind === 'delivered') exit.machineCheckFrame = result.frame;
  } else {
    exit.nmis++;
    if (isAttached(lane)) exit.hostNmis++;
  }
  if (result.kind === 'delivered' && result.ist !== 0) noteFrame(machine, lane, result.frame);
}

/** The exit is over: what the payload serviced in it is due in its telemetry. */
export function addToTruth({ exit, truth }: Lane): void {
  // What caused an exit that went to KVM was serviced there.
  const byExit = exit.outcome === 'fastpath' ? 0 : 1;
  truth.nmis += exit.nmis - exit.hostNmis - (exit.isNmi ? byExit : 0);
  truth.machineChecks +=
    exit.machineChecks - exit.hostMachineChecks - (exit.isMachineCheck ? byExit : 0);
}

/** A fault of the payload's own is about to be delivered. */
export function noteFault(lane: Lane, { vector, errorCode, address }: Fault, rip: bigint): void {
  noteFatal(lane, { vector, errorCode: errorCode ?? 0, rip, cr2: address ?? cr2Of(lane) });
}

/** A machine check ended the exit that ran the guest. */
export function noteMachineCheckExit(lane: Lane): void {
  noteMachineCheck(lane, lane.vmcs.read('GUEST_RIP'));
}

const noteMachineCheck = (lane: Lane, rip: bigint): void =>
  noteFatal(lane, { vector: VECTOR.MC, errorCode: 0, rip, cr2: cr2Of(lane) });

const cr2Of = ({ pcpu }: Lane): bigint => pcpu.registers.values[REG.CR2]!;

function noteFatal({ exit }: Lane, event: FatalEvent): void {
  exit.fatal.push(event);
}

/** Whether the handler of a machine check has not come to its end. */
export function isServicingMachineCheck({ exit, inExit, pcpu }: Lane): boolean {
  if (!inExit) return false;
  if (exit.isMachineCheck && exit.outcome === null) return true;
  const rsp = pcpu.registers.values[REG.RSP]!;
  return rsp <= exit.machineCheckFrame && exit.machineCheckFrame - rsp < MAX_IST_BYTES;
}

/** What the machine check in progress has left of what it interrupted. */
export function machineCheckSeverity({ pcpu }: Lane): Severity {
  const { file } = pcpu.msrs;
  return severityOf(file.read(MSR.IA32_MCG_STATUS) ?? 0n, (index) => file.read(index));
}

const isAttached = (lane: Lane): boolean =>
  lane.memory.words[(lane.ccb + ATTACH_STATE) >>> 2] === CARETAKER_ATTACH_STATE.KVM_ATTACHED;

/** A handler on the same stack, which the event interrupted, cannot return any more. */
function noteFrame(machine: Machine, lane: Lane, frame: bigint): void {
  const interrupted = lane.memory.bytes.readU64(frame + FRAME_RSP);
  const top = frame + FRAME_BYTES;
  const isNested = interrupted <= frame && top - interrupted < MAX_IST_BYTES;
  if (isNested && lane.exit.frames.has(frame)) {
    const what = "a handler's frame on its interrupt stack was overwritten";
    machine.ledger.fail('nmi', lane.rip, `${lane.describeExit()}: ${what}`);
  }
  lane.exit.frames.add(frame);
}
