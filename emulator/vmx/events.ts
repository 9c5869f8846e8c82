/**
 * Which event comes next in VMX non-root operation: machine checks, INIT and SIPI, debug traps, timer, windows, NMI,
 * interrupts, and what wakes each activity state.
 *
 * Source: SDM, "Priority Among Concurrent Events", "Other Causes of VM Exits", "Interrupt-Window Exiting and Virtual-Interrupt Delivery", "NMI-Window
 * Exiting", "Posted-Interrupt Processing", "Delivery of Pending Debug Exceptions after VM Entry", "VMX-Preemption Timer", "Activity State", "Acknowledge interrupt on exit".
 * Invariant: a pure function of the guest-state area and of what is pending; taking an event changes nothing here.
 * Not modelled: SMI, the TPR threshold. This processor blocks NMIs and
 * NMI-window exits by MOV SS only, and external interrupts by STI and MOV SS.
 */
import { EXIT_REASON } from '../../abi/exit-reasons.js';
import {
  ACTIVITY,
  INTERRUPTIBILITY,
  PENDING_DBG,
  VECTOR,
  encodeInterruption,
} from '../../abi/interruption.js';
import { VMCS_SLOT } from '../../abi/vmcs-fields.js';
import { EXIT_CONTROL, PIN, PRIMARY } from '../../abi/vmx-controls.js';
import { isNotification } from './virtual-apic.js';
import type { VmExit } from './vm-exit.js';
import type { Vmcs } from './vmcs.js';

const {
  CPU_BASED_VM_EXEC_CONTROL,
  EXCEPTION_BITMAP,
  GUEST_ACTIVITY_STATE,
  GUEST_INTERRUPTIBILITY_INFO,
  GUEST_PENDING_DBG_EXCEPTIONS,
  GUEST_RFLAGS,
  PIN_BASED_VM_EXEC_CONTROL,
  VM_EXIT_CONTROLS,
} = VMCS_SLOT;

const IF = 0x200;
const TF = 0x100;

/** What is pending on the logical processor. */
export interface PendingEvents {
  readonly machineCheck?: boolean;
  readonly init?: boolean;
  /** The vector of a start-up IPI. */
  readonly sipi?: number;
  /** A pending monitor trap flag VM exit. */
  readonly monitorTrap?: boolean;
  /** The VMX-preemption timer has reached 0. */
  readonly timerExpired?: boolean;
  readonly nmi?: boolean;
  /** A pending virtual interrupt is recognized. */
  readonly virtualInterrupt?: boolean;
  /** The highest-priority vector that the local APIC has ready. */
  readonly externalInterrupt?: number | undefined;
}

/** What happens at this instruction boundary. */
export type NextEvent =
  | { readonly kind: 'exit'; readonly exit: VmExit; readonly acknowledged: number | null }
  /** Delivered through the guest's IDT without a VM exit. */
  | {
      readonly kind: 'delivered';
      readonly vector: number;
      readonly source: 'machine-check' | 'debug' | 'nmi' | 'external';
    }
  /** Virtual-interrupt delivery, of RVI. */
  | { readonly kind: 'virtual' }
  /** The notification vector, which begins posted-interrupt processing. */
  | { readonly kind: 'notification' }
  | { readonly kind: 'none' };

const NONE: NextEvent = { kind: 'none' };

function exitOf(basic: number): NextEvent {
  return { kind: 'exit', exit: { basic }, acknowledged: null };
}

function interruptionExit(
  basic: number,
  interruptionInfo: number,
  acknowledged: number | null,
): NextEvent {
  return { kind: 'exit', exit: { basic, interruptionInfo }, acknowledged };
}

/** Whether an interrupt-window exit would occur now, were interrupt-window exiting 1. */
export function interruptWindowIsOpen(vmcs: Vmcs): boolean {
  const activity = vmcs.low(GUEST_ACTIVITY_STATE);
  return (
    (activity === ACTIVITY.ACTIVE || activity === ACTIVITY.HLT) &&
    (vmcs.low(GUEST_RFLAGS) & IF) !== 0 &&
    !isShadowed(vmcs)
  );
}

/** Whether an NMI-window exit would occur now, were NMI-window exiting 1. */
export function nmiWindowIsOpen(vmcs: Vmcs): boolean {
  const blocked = INTERRUPTIBILITY.NMI | INTERRUPTIBILITY.MOV_SS;
  return (
    vmcs.low(GUEST_ACTIVITY_STATE) !== ACTIVITY.WAIT_SIPI &&
    (vmcs.low(GUEST_INTERRUPTIBILITY_INFO) & blocked) === 0
  );
}

/** The event of highest priority that occurs now in VMX non-root operation. */
export function nextEvent(vmcs: Vmcs, pending: PendingEvents): NextEvent {
  if (vmcs.low(GUEST_ACTIVITY_STATE) === ACTIVITY.WAIT_SIPI) {
    if (pending.sipi === undefined) return NONE;
    const qualification = BigInt(pending.sipi & 0xff);
    const exit = { basic: EXIT_REASON.EXIT_REASON_SIPI_SIGNAL, qualification };
    return { kind: 'exit', exit, acknowledged: null };
  }
  if (pending.machineCheck === true) return machineCheck(vmcs);
  if (pending.init === true) return exitOf(EXIT_REASON.EXIT_REASON_INIT_SIGNAL);
  if (pending.monitorTrap === true) return exitOf(EXIT_REASON.EXIT_REASON_MONITOR_TRAP_FLAG);
  const traps = pendingDebugTraps(vmcs);
  if (traps !== 0) return debugException(vmcs, traps);
  const pin = vmcs.low(PIN_BASED_VM_EXEC_CONTROL);
  if (pending.timerExpired === true && (pin & PIN.PREEMPTION_TIMER) !== 0) {
    return exitOf(EXIT_REASON.EXIT_REASON_PREEMPTION_TIMER);
  }
  const primary = vmcs.low(CPU_BASED_VM_EXEC_CONTROL);
  if ((primary & PRIMARY.NMI_WINDOW_EXITING) !== 0 && nmiWindowIsOpen(vmcs)) {
    return exitOf(EXIT_REASON.EXIT_REASON_NMI_WINDOW);
  }
  if (pending.nmi === true && !nmiIsBlocked(vmcs)) return nmi(pin);
  if ((primary & PRIMARY.INTR_WINDOW_EXITING) !== 0 && interruptWindowIsOpen(vmcs)) {
    return exitOf(EXIT_REASON.EXIT_REASON_INTERRUPT_WINDOW);
  }
  if (pending.virtualInterrupt === true && interruptWindowIsOpen(vmcs)) return { kind: 'virtual' };
  return pending.externalInterrupt === undefined
    ? NONE
    : externalInterrupt(vmcs, pending.externalInterrupt);
}

/** Whether the shadow of STI or MOV SS blocks events until the guest's next instruction has been executed. */
export function isShadowed(vmcs: Vmcs): boolean {
  const shadow = INTERRUPTIBILITY.STI | INTERRUPTIBILITY.MOV_SS;
  return (vmcs.low(GUEST_INTERRUPTIBILITY_INFO) & shadow) !== 0;
}

/** The guest's next instruction has been executed. */
export function endShadow(vmcs: Vmcs): void {
  const shadow = INTERRUPTIBILITY.STI | INTERRUPTIBILITY.MOV_SS;
  vmcs.setLow(GUEST_INTERRUPTIBILITY_INFO, vmcs.low(GUEST_INTERRUPTIBILITY_INFO) & ~shadow);
}

/** The guest has executed IRET. */
export function endNmiBlocking(vmcs: Vmcs): void {
  const blocked = vmcs.low(GUEST_INTERRUPTIBILITY_INFO);
  vmcs.setLow(GUEST_INTERRUPTIBILITY_INFO, blocked & ~INTERRUPTIBILITY.NMI);
}

/** With virtual NMIs, bit 3 is the guest's own blocking and physical NMIs are not blocked. */
function nmiIsBlocked(vmcs: Vmcs): boolean {
  const virtual = (vmcs.low(PIN_BASED_VM_EXEC_CONTROL) & PIN.VIRTUAL_NMIS) !== 0;
  const blocked = virtual
    ? INTERRUPTIBILITY.MOV_SS
    : INTERRUPTIBILITY.MOV_SS | INTERRUPTIBILITY.NMI;
  return (vmcs.low(GUEST_INTERRUPTIBILITY_INFO) & blocked) !== 0;
}

/** A fault of vector 18 without an error code, like any other exception's under the exception bitmap. */
function machineCheck(vmcs: Vmcs): NextEvent {
  if ((vmcs.low(EXCEPTION_BITMAP) & (1 << VECTOR.MC)) === 0) {
    return { kind: 'delivered', vector: VECTOR.MC, source: 'machine-check' };
  }
  const info = encodeInterruption('HARD_EXCEPTION', VECTOR.MC);
  return interruptionExit(EXIT_REASON.EXIT_REASON_EXCEPTION_NMI, info, null);
}

/** The debug exceptions that the guest takes at this boundary, as bits of DR6; 0 for none. */
export function pendingDebugTraps(vmcs: Vmcs): number {
  const pending = vmcs.low(GUEST_PENDING_DBG_EXCEPTIONS);
  if ((pending & PENDING_DBG.VALID) === 0) return 0;
  if ((vmcs.low(GUEST_INTERRUPTIBILITY_INFO) & INTERRUPTIBILITY.MOV_SS) !== 0) return 0;
  const activity = vmcs.low(GUEST_ACTIVITY_STATE);
  return activity === ACTIVITY.ACTIVE || activity === ACTIVITY.HLT ? pending : 0;
}

/** The guest takes #DB: nothing is pending any more, and its handler runs without RFLAGS.TF. */
export function endDebugTraps(vmcs: Vmcs): void {
  vmcs.setLow(GUEST_PENDING_DBG_EXCEPTIONS, 0);
  vmcs.setLow(GUEST_RFLAGS, vmcs.low(GUEST_RFLAGS) & ~TF);
}

function debugException(vmcs: Vmcs, traps: number): NextEvent {
  if ((vmcs.low(EXCEPTION_BITMAP) & (1 << VECTOR.DB)) === 0)
    return { kind: 'delivered', vector: VECTOR.DB, source: 'debug' };
  const exit: VmExit = {
    basic: EXIT_REASON.EXIT_REASON_EXCEPTION_NMI,
    interruptionInfo: encodeInterruption('HARD_EXCEPTION', VECTOR.DB),
    qualification: BigInt(traps & (PENDING_DBG.B_MASK | PENDING_DBG.BS)),
  };
  return { kind: 'exit', exit, acknowledged: null };
}

function nmi(pin: number): NextEvent {
  if ((pin & PIN.NMI_EXITING) === 0) {
    return { kind: 'delivered', vector: VECTOR.NMI, source: 'nmi' };
  }
  const info = encodeInterruption('NMI_INTR', VECTOR.NMI);
  return interruptionExit(EXIT_REASON.EXIT_REASON_EXCEPTION_NMI, info, null);
}

function externalInterrupt(vmcs: Vmcs, vector: number): NextEvent {
  // The shutdown state blocks external interrupts, whether or not they would exit.
  if (vmcs.low(GUEST_ACTIVITY_STATE) === ACTIVITY.SHUTDOWN || isShadowed(vmcs)) return NONE;
  if ((vmcs.low(PIN_BASED_VM_EXEC_CONTROL) & PIN.EXT_INTR_EXITING) === 0) {
    if ((vmcs.low(GUEST_RFLAGS) & IF) === 0) return NONE;
    return { kind: 'delivered', vector, source: 'external' };
  }
  if (isNotification(vmcs, vector)) return { kind: 'notification' };
  const basic = EXIT_REASON.EXIT_REASON_EXTERNAL_INTERRUPT;
  if ((vmcs.low(VM_EXIT_CONTROLS) & EXIT_CONTROL.ACK_INTR_ON_EXIT) === 0) return exitOf(basic);
  return interruptionExit(basic, encodeInterruption('EXT_INTR', vector), vector);
}
