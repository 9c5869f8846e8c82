/**
 * VM-exit delivery: exit information, what is saved, the host-state area, MSR areas, VMX abort.
 *
 * Source: SDM, "VM Exits" > "Recording VM-Exit Information and Updating VM-Entry Control Fields", "Saving Guest State",
 * "Loading Host State", "VMX Aborts".
 * Invariant: after deliverExit() the pCPU is in VMX root operation at HOST_RIP, the general registers but RSP still hold
 * the guest's values, and the list of written slots is empty: whatever is in it later was written by the host.
 * Not modelled: the guest-state area is the guest's live state, so whoever runs the guest writes GUEST_* before the exit;
 * SMM, dual-monitor treatment, address-range monitoring, LBRs.
 */
import { INTR_INFO, INTR_TYPE } from '../../abi/interruption.js';
import { EXIT_REASON, EXIT_REASON_WORD } from '../../abi/exit-reasons.js';
import { VMX_ABORT, type VmxAbortCode } from '../../abi/vm-errors.js';
import { VMCS_SLOT } from '../../abi/vmcs-fields.js';
import { EXIT_CONTROL, PIN } from '../../abi/vmx-controls.js';
import { sweep } from './entry-checks/evaluate.js';
import { loadHostImage, makeHostImage, type StateBefore } from './host-image.js';
import { loadMsrArea, storeMsrArea } from './msr-area.js';
import type { VmxPcpu } from './ports.js';
import { timerValueAt } from './preemption-timer.js';
import { ABORT_INDICATOR_OFFSET } from './vmcs-store.js';
import type { Vmcs } from './vmcs.js';

const {
  EXIT_QUALIFICATION,
  GUEST_LINEAR_ADDRESS,
  GUEST_PHYSICAL_ADDRESS,
  IDT_VECTORING_ERROR_CODE,
  IDT_VECTORING_INFO_FIELD,
  IO_RCX,
  IO_RDI,
  IO_RIP,
  IO_RSI,
  ORIGINAL_EVENT_DATA,
  PIN_BASED_VM_EXEC_CONTROL,
  VM_ENTRY_INTR_INFO_FIELD,
  VM_EXIT_CONTROLS,
  VM_EXIT_INSTRUCTION_LEN,
  VM_EXIT_INTR_ERROR_CODE,
  VM_EXIT_INTR_INFO,
  VM_EXIT_MSR_LOAD_ADDR,
  VM_EXIT_MSR_LOAD_COUNT,
  VM_EXIT_MSR_STORE_ADDR,
  VM_EXIT_MSR_STORE_COUNT,
  VM_EXIT_REASON,
  VMX_INSTRUCTION_INFO,
  VMX_PREEMPTION_TIMER_VALUE,
} = VMCS_SLOT;

/**
 * What caused a VM exit. An absent qualification is 0 and absent interruption or IDT-vectoring information is not valid, as
 * the SDM says for exits that do not define them; every other absent field is undefined, and so poison.
 */
export interface VmExit {
  /** Basic exit reason. */
  readonly basic: number;
  /** Bits of EXIT_REASON_WORD to set besides. */
  readonly reasonBits?: number | undefined;
  readonly qualification?: bigint | undefined;
  readonly instructionLength?: number | undefined;
  readonly interruptionInfo?: number | undefined;
  readonly interruptionErrorCode?: number | undefined;
  readonly idtVectoringInfo?: number | undefined;
  readonly idtVectoringErrorCode?: number | undefined;
  readonly guestLinearAddress?: bigint | undefined;
  readonly guestPhysicalAddress?: bigint | undefined;
  readonly instructionInfo?: number | undefined;
}

/** How a VM exit ended: at HOST_RIP, or in a VMX abort whose number is in the VMCS region. */
export type ExitDelivery =
  | { readonly kind: 'delivered' }
  | { readonly kind: 'abort'; readonly code: VmxAbortCode; readonly rule: string };

const DELIVERED: ExitDelivery = { kind: 'delivered' };

/** Delivers a VM exit of the current VMCS on a pCPU in VMX non-root operation. */
export function deliverExit(pcpu: VmxPcpu, vmcs: Vmcs, exit: VmExit): ExitDelivery {
  recordExit(vmcs, exit);
  saveGuestState(pcpu, vmcs);
  const stored = vmcs.low(VM_EXIT_MSR_STORE_COUNT);
  if (stored !== 0) {
    const result = storeMsrArea(pcpu, vmcs.get(VM_EXIT_MSR_STORE_ADDR), stored);
    if (result.kind === 'refused') {
      return abort(pcpu, vmcs, VMX_ABORT.SAVING_GUEST_MSRS, result.rule);
    }
  }
  if (causedByNmi(exit)) pcpu.blocking.nmi = true;
  return loadHostState(pcpu, vmcs);
}

/** Loads the host-state area and the VM-exit MSR-load area, as VM exits and VM-entry failures do. */
export function loadHostState(
  pcpu: VmxPcpu,
  vmcs: Vmcs,
  before: StateBefore = 'guest',
): ExitDelivery {
  sweep(vmcs);
  vmcs.hostImage ??= makeHostImage(vmcs);
  const corrupt = loadHostImage(pcpu, vmcs, vmcs.hostImage, before);
  if (corrupt !== null) return abort(pcpu, vmcs, VMX_ABORT.CORRUPT_VMCS, corrupt);
  pcpu.blocking.sti = false;
  pcpu.blocking.movSs = false;
  pcpu.vmx.mode = 'root';
  const count = vmcs.low(VM_EXIT_MSR_LOAD_COUNT);
  if (count !== 0) {
    const result = loadMsrArea(pcpu, vmcs.get(VM_EXIT_MSR_LOAD_ADDR), count);
    if (result.kind === 'refused') {
      return abort(pcpu, vmcs, VMX_ABORT.LOADING_HOST_MSRS, result.rule);
    }
  }
  return DELIVERED;
}

/** Ends VMX operation in a shutdown and leaves the number in the VMCS region. */
export function abort(
  pcpu: VmxPcpu,
  vmcs: Vmcs,
  code: VmxAbortCode,
  rule: string,
): ExitDelivery & { kind: 'abort' } {
  pcpu.memory.writeU32(vmcs.regionPa + BigInt(ABORT_INDICATOR_OFFSET), code);
  pcpu.vmx.mode = 'aborted';
  return { kind: 'abort', code, rule };
}

function recordExit(vmcs: Vmcs, exit: VmExit): void {
  vmcs.record(VM_EXIT_REASON, (exit.basic & EXIT_REASON_WORD.BASIC_MASK) | (exit.reasonBits ?? 0));
  if (exit.qualification === undefined) vmcs.record(EXIT_QUALIFICATION, 0);
  else recordWide(vmcs, EXIT_QUALIFICATION, exit.qualification);
  vmcs.record(VM_EXIT_INTR_INFO, exit.interruptionInfo ?? 0);
  vmcs.record(IDT_VECTORING_INFO_FIELD, exit.idtVectoringInfo ?? 0);
  recordOrPoison(vmcs, VM_EXIT_INTR_ERROR_CODE, exit.interruptionErrorCode);
  recordOrPoison(vmcs, IDT_VECTORING_ERROR_CODE, exit.idtVectoringErrorCode);
  recordOrPoison(vmcs, VM_EXIT_INSTRUCTION_LEN, exit.instructionLength);
  recordOrPoison(vmcs, VMX_INSTRUCTION_INFO, exit.instructionInfo);
  if (exit.guestLinearAddress === undefined) vmcs.poison(GUEST_LINEAR_ADDRESS);
  else recordWide(vmcs, GUEST_LINEAR_ADDRESS, exit.guestLinearAddress);
  if (exit.guestPhysicalAddress === undefined) vmcs.poison(GUEST_PHYSICAL_ADDRESS);
  else recordWide(vmcs, GUEST_PHYSICAL_ADDRESS, exit.guestPhysicalAddress);
  vmcs.poison(IO_RCX);
  vmcs.poison(IO_RSI);
  vmcs.poison(IO_RDI);
  vmcs.poison(IO_RIP);
  vmcs.poison(ORIGINAL_EVENT_DATA);
}

function recordWide(vmcs: Vmcs, slot: number, value: bigint): void {
  vmcs.record(slot, 0);
  vmcs.values[slot] = value;
}

function recordOrPoison(vmcs: Vmcs, slot: number, value: number | undefined): void {
  if (value === undefined) vmcs.poison(slot);
  else vmcs.record(slot, value);
}

function saveGuestState(pcpu: VmxPcpu, vmcs: Vmcs): void {
  const injected = vmcs.low(VM_ENTRY_INTR_INFO_FIELD);
  if ((injected & INTR_INFO.VALID) !== 0) {
    vmcs.setLow(VM_ENTRY_INTR_INFO_FIELD, injected & ~INTR_INFO.VALID);
  }
  const timer = (vmcs.low(PIN_BASED_VM_EXEC_CONTROL) & PIN.PREEMPTION_TIMER) !== 0;
  const saves = (vmcs.low(VM_EXIT_CONTROLS) & EXIT_CONTROL.SAVE_VMX_PREEMPTION_TIMER) !== 0;
  if (timer && saves) {
    const value = vmcs.low(VMX_PREEMPTION_TIMER_VALUE);
    const shift = pcpu.capabilities.preemptionTimerShift;
    vmcs.setLow(VMX_PREEMPTION_TIMER_VALUE, timerValueAt(vmcs.entryTsc, value, pcpu.now(), shift));
  }
}

function causedByNmi(exit: VmExit): boolean {
  if (exit.basic !== EXIT_REASON.EXIT_REASON_EXCEPTION_NMI) return false;
  const info = exit.interruptionInfo ?? 0;
  return (
    (info & INTR_INFO.VALID) !== 0 &&
    (info & INTR_INFO.TYPE_MASK) >>> INTR_INFO.TYPE_SHIFT === INTR_TYPE.NMI_INTR
  );
}
