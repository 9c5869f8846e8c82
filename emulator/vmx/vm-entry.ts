/**
 * VM entry: checks, event injection, what is loaded, and VM-entry failures.
 *
 * Source: SDM, "VM Entries", "Event Injection", "Special Features of VM Entry", "VM-Entry Failures During or After
 * Loading Guest State".
 * Invariant: a failure before the guest state is checked (VMfail) changes nothing; a later one loads the host state, writes
 * only the exit reason and qualification, and keeps the valid bit of the event to be injected and NMI blocking.
 * Not modelled: the guest-state area is the guest's live state, so nothing of it is copied to registers; VM entries to
 * and from SMM; the TPR-threshold exit right after entry (events.ts tells which exits are pending).
 */
import {
  ACTIVITY,
  INTERRUPTIBILITY,
  INTR_INFO,
  INTR_TYPE,
  PENDING_DBG,
} from '../../abi/interruption.js';
import { EXIT_REASON, EXIT_REASON_WORD } from '../../abi/exit-reasons.js';
import { VMXERR, type VmxAbortCode } from '../../abi/vm-errors.js';
import { VMCS_SLOT } from '../../abi/vmcs-fields.js';
import { PIN } from '../../abi/vmx-controls.js';
import { checkChanged } from './entry-checks/evaluate.js';
import { loadMsrArea } from './msr-area.js';
import type { VmxPcpu } from './ports.js';
import { timerExpiresAt, type ArmedTimer } from './preemption-timer.js';
import { deliversVirtualInterrupts, VirtualApic } from './virtual-apic.js';
import type { Vmcs } from './vmcs.js';
import { loadHostState } from './vm-exit.js';

const {
  EXIT_QUALIFICATION,
  GUEST_ACTIVITY_STATE,
  GUEST_INTERRUPTIBILITY_INFO,
  GUEST_PENDING_DBG_EXCEPTIONS,
  PIN_BASED_VM_EXEC_CONTROL,
  VM_ENTRY_EXCEPTION_ERROR_CODE,
  VM_ENTRY_INSTRUCTION_LEN,
  VM_ENTRY_INTR_INFO_FIELD,
  VM_ENTRY_MSR_LOAD_ADDR,
  VM_ENTRY_MSR_LOAD_COUNT,
  VM_EXIT_REASON,
  VMX_PREEMPTION_TIMER_VALUE,
} = VMCS_SLOT;

/** An event that VM entry delivers to the guest before its first instruction. */
export interface InjectedEvent {
  /** A value of INTR_TYPE. */
  readonly type: number;
  readonly vector: number;
  readonly errorCode: number | null;
  /** For software interrupts and exceptions, else null. */
  readonly instructionLength: number | null;
}

/** How VMLAUNCH or VMRESUME ended. */
export type VmEntry =
  | {
      readonly kind: 'entered';
      readonly event: InjectedEvent | null;
      /** A value of ACTIVITY: the state after the event, if there is one. */
      readonly activity: number;
      readonly timer: ArmedTimer | null;
    }
  /** VMfailValid; `rule` is the check that failed, if it was one. */
  | { readonly kind: 'vmfail'; readonly error: number; readonly rule: string | null }
  /** An exit with bit 31 of the reason set: the host state is loaded, the guest state untouched. */
  | {
      readonly kind: 'entry-failure';
      readonly basic: number;
      readonly qualification: number;
      readonly rule: string;
    }
  | { readonly kind: 'abort'; readonly code: VmxAbortCode; readonly rule: string };

/** Executes VMLAUNCH or VMRESUME on the current VMCS of a pCPU in VMX root operation. */
export function vmEntry(pcpu: VmxPcpu, vmcs: Vmcs, how: 'launch' | 'resume'): VmEntry {
  if (pcpu.blocking.movSs) return vmfail(VMXERR.VMXERR_ENTRY_EVENTS_BLOCKED_BY_MOV_SS);
  if (how === 'launch') {
    if (vmcs.launchState !== 'clear') return vmfail(VMXERR.VMXERR_VMLAUNCH_NONCLEAR_VMCS);
  } else {
    if (vmcs.stale) return vmfail(VMXERR.VMXERR_VMRESUME_AFTER_VMXOFF);
    if (vmcs.launchState !== 'launched') return vmfail(VMXERR.VMXERR_VMRESUME_NONLAUNCHED_VMCS);
  }

  const broken = checkChanged(vmcs, pcpu);
  if (broken !== undefined) {
    if (broken.result.kind === 'vmfail') return vmfail(broken.result.error, broken.rule);
    const { qualification } = broken.result;
    return failure(pcpu, vmcs, EXIT_REASON.EXIT_REASON_INVALID_STATE, qualification, broken.rule);
  }

  const count = vmcs.low(VM_ENTRY_MSR_LOAD_COUNT);
  if (count !== 0) {
    const result = loadMsrArea(pcpu, vmcs.get(VM_ENTRY_MSR_LOAD_ADDR), count);
    if (result.kind === 'refused') {
      const reason = EXIT_REASON.EXIT_REASON_MSR_LOAD_FAIL;
      return failure(pcpu, vmcs, reason, result.entry, result.rule);
    }
  }
  return enter(pcpu, vmcs);
}

function vmfail(error: number, rule: string | null = null): VmEntry {
  return { kind: 'vmfail', error, rule };
}

function failure(
  pcpu: VmxPcpu,
  vmcs: Vmcs,
  basic: number,
  qualification: number,
  rule: string,
): VmEntry {
  vmcs.record(VM_EXIT_REASON, basic | EXIT_REASON_WORD.FAILED_VMENTRY);
  vmcs.record(EXIT_QUALIFICATION, qualification);
  // Guest state that is refused is not loaded; a list of MSRs comes behind it.
  const isLoaded = basic === EXIT_REASON.EXIT_REASON_MSR_LOAD_FAIL;
  const loaded = loadHostState(pcpu, vmcs, isLoaded ? 'guest' : 'root');
  return loaded.kind === 'abort' ? loaded : { kind: 'entry-failure', basic, qualification, rule };
}

function enter(pcpu: VmxPcpu, vmcs: Vmcs): VmEntry {
  vmcs.launchState = 'launched';
  vmcs.entryTsc = pcpu.now();
  pcpu.vmx.mode = 'non-root';
  const pin = vmcs.low(PIN_BASED_VM_EXEC_CONTROL);
  const event = takeEvent(vmcs);
  if (vmcs.low(GUEST_PENDING_DBG_EXCEPTIONS) !== 0 && !staysPending(vmcs, event))
    vmcs.setLow(GUEST_PENDING_DBG_EXCEPTIONS, 0);
  if (event !== null && event.type !== INTR_TYPE.OTHER_EVENT) applyDelivery(vmcs, event);
  // With virtual NMIs, bit 3 of the interruptibility state is the guest's own blocking and not the processor's.
  pcpu.blocking.nmi =
    (pin & PIN.VIRTUAL_NMIS) === 0 &&
    (vmcs.low(GUEST_INTERRUPTIBILITY_INFO) & INTERRUPTIBILITY.NMI) !== 0;
  pcpu.blocking.sti = false;
  pcpu.blocking.movSs = false;
  if (deliversVirtualInterrupts(vmcs)) new VirtualApic(pcpu.memory, vmcs).entered();
  return {
    kind: 'entered',
    event,
    activity: vmcs.low(GUEST_ACTIVITY_STATE),
    timer: (pin & PIN.PREEMPTION_TIMER) === 0 ? null : armTimer(pcpu, vmcs),
  };
}

/**
 * Whether the debug exceptions that the field names are pending in the guest ("Delivery of Pending Debug Exceptions after VM
 * Entry"): any event but one of software's under blocking by MOV SS takes their place.
 */
function staysPending(vmcs: Vmcs, event: InjectedEvent | null): boolean {
  if ((vmcs.low(GUEST_PENDING_DBG_EXCEPTIONS) & PENDING_DBG.VALID) === 0) return false;
  if (event === null || event.type === INTR_TYPE.OTHER_EVENT) {
    const activity = vmcs.low(GUEST_ACTIVITY_STATE);
    return activity === ACTIVITY.ACTIVE || activity === ACTIVITY.HLT;
  }
  const isSoftware = event.type === INTR_TYPE.SOFT_INTR || event.type === INTR_TYPE.SOFT_EXCEPTION;
  const isHeld = (vmcs.low(GUEST_INTERRUPTIBILITY_INFO) & INTERRUPTIBILITY.MOV_SS) !== 0;
  return isSoftware && isHeld;
}

function takeEvent(vmcs: Vmcs): InjectedEvent | null {
  const info = vmcs.low(VM_ENTRY_INTR_INFO_FIELD);
  if ((info & INTR_INFO.VALID) === 0) return null;
  const type = (info & INTR_INFO.TYPE_MASK) >>> INTR_INFO.TYPE_SHIFT;
  const isSoftware =
    type === INTR_TYPE.SOFT_INTR ||
    type === INTR_TYPE.PRIV_SW_EXCEPTION ||
    type === INTR_TYPE.SOFT_EXCEPTION;
  return {
    type,
    vector: info & INTR_INFO.VECTOR_MASK,
    errorCode:
      (info & INTR_INFO.DELIVER_CODE) === 0 ? null : vmcs.low(VM_ENTRY_EXCEPTION_ERROR_CODE),
    instructionLength: isSoftware ? vmcs.low(VM_ENTRY_INSTRUCTION_LEN) : null,
  };
}

/** What delivering an event does to the guest's non-register state. */
function applyDelivery(vmcs: Vmcs, event: InjectedEvent): void {
  const before = vmcs.low(GUEST_INTERRUPTIBILITY_INFO);
  const unblocked = before & ~(INTERRUPTIBILITY.STI | INTERRUPTIBILITY.MOV_SS);
  const after = event.type === INTR_TYPE.NMI_INTR ? unblocked | INTERRUPTIBILITY.NMI : unblocked;
  if (after !== before) vmcs.setLow(GUEST_INTERRUPTIBILITY_INFO, after);
  if (vmcs.low(GUEST_ACTIVITY_STATE) !== ACTIVITY.ACTIVE) {
    vmcs.setLow(GUEST_ACTIVITY_STATE, ACTIVITY.ACTIVE);
  }
}

function armTimer(pcpu: VmxPcpu, vmcs: Vmcs): ArmedTimer {
  const value = vmcs.low(VMX_PREEMPTION_TIMER_VALUE);
  const shift = pcpu.capabilities.preemptionTimerShift;
  return { value, expiresAt: timerExpiresAt(vmcs.entryTsc, value, shift) };
}
