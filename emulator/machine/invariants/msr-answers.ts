/**
 * What KVM's policy lets an answered RDMSR or WRMSR do: the value that the guest reads, where a written value must be,
 * and whether #GP(0) is due.
 *
 * Source: CONTRACT ("What the payload handles"); SDM, "x2APIC Register Address Space"; abi/config.ts, CARETAKER_MSR.
 * Invariant: judged by the shared configuration, which KVM alone writes, and by soft state and the VMCS at VM entry.
 * PPR, ISR and IRR, which VM entry itself moves, are judged by what they were at the exit.
 * Not modelled: registers that the policy does not name.
 */
import {
  CARETAKER_CONFIG,
  CARETAKER_MSR,
  CARETAKER_MSR_ACTION,
  CARETAKER_MSR_MAX,
} from '../../../abi/config.js';
import { EXIT_REASON } from '../../../abi/exit-reasons.js';
import { offsetsOf } from '../../../abi/layout.js';
import { MSR } from '../../../abi/msrs.js';
import { CARETAKER_SOFT_STATE } from '../../../abi/soft-state.js';
import { fieldAt, NO_SLOT, slotOf } from '../../../abi/vmcs-fields.js';
import { X2APIC, X2APIC_FIRST, X2APIC_LAST } from '../../../abi/x2apic.js';
import { hex } from '../../../abi/uint.js';
import { REG } from '../../cpu/registers.js';
import { logicalIdOf } from '../../vmx/root/ipi-destination.js';
import type { Lane } from '../lane.js';
import { highestOf, processorPriority, requestedNow } from '../virtual-apic.js';

const CONFIG = offsetsOf<'msr_count' | 'msr'>(CARETAKER_CONFIG);
const ROW = offsetsOf<'index' | 'read_action' | 'write_action' | 'vmcs_field' | 'writable'>(
  CARETAKER_MSR,
);
const SOFT = offsetsOf<
  'tsc_deadline' | 'tpr' | 'lvt_timer' | 'isr' | 'tmr' | 'apic_id' | 'msr_value'
>(CARETAKER_SOFT_STATE);
const REGISTERS_A_SET = 8;
const NONE = -1;

/** Whether the guest gets #GP(0) for its instruction. */
export type FaultDue = 'never' | 'may' | 'must';

/** Whether the policy wants a fault for the MSR access that the exit is about. */
export function msrFaultDue(lane: Lane): FaultDue {
  const isWrite = lane.exit.basic === EXIT_REASON.EXIT_REASON_MSR_WRITE;
  const index = lane.exit.registers[2 * REG.RCX]!;
  const row = find(lane, index);
  const isApic = index >= X2APIC_FIRST && index <= X2APIC_LAST;
  if (row === NONE) return isApic ? 'may' : 'never';
  const { words } = lane.memory;
  const action = words[(row + (isWrite ? ROW.write_action : ROW.read_action)) >>> 2];
  if (action === CARETAKER_MSR_ACTION.FAULT) return 'must';
  if (action === CARETAKER_MSR_ACTION.IGNORE) return 'never';
  if (isWrite && writesReservedBits(lane, row)) return 'must';
  if (isApic) return 'may';
  // VM entry refuses some values of a field, and so does WRMSR then.
  return isWrite && action === CARETAKER_MSR_ACTION.VMCS ? 'may' : 'never';
}

/** Where the low word of the value is that the guest must read or has written, as an index into `wordsOf`, or NONE. */
function homeOf(lane: Lane, row: number, index: number): number {
  const soft = lane.softState;
  switch (index) {
    case X2APIC.APICID:
      return (soft + SOFT.apic_id) >>> 2;
    case X2APIC.TPR:
      return (soft + SOFT.tpr) >>> 2;
    case X2APIC.LVT_TIMER:
      return (soft + SOFT.lvt_timer) >>> 2;
    // VM entry moves these, sends them on, or they are kept nowhere.
    case X2APIC.PPR:
    case X2APIC.LDR:
    case X2APIC.EOI:
    case X2APIC.SELF_IPI:
    case MSR.IA32_TSC_DEADLINE:
      return NONE;
    default:
  }
  if (index >= X2APIC.TMR0 && index < X2APIC.TMR0 + REGISTERS_A_SET)
    return ((soft + SOFT.tmr) >>> 2) + (index - X2APIC.TMR0);
  if (index >= X2APIC.ISR0 && index < X2APIC.ESR) return NONE;
  if (row === NONE) return NONE;
  const entry = (row - lane.config - CONFIG.msr) / CARETAKER_MSR.sizeBytes;
  return ((soft + SOFT.msr_value) >>> 2) + 2 * entry;
}

/** What is wrong with the answer to an MSR access that did not fault, or null. */
export function wrongMsrAnswer(lane: Lane): string | null {
  const isWrite = lane.exit.basic === EXIT_REASON.EXIT_REASON_MSR_WRITE;
  const index = lane.exit.registers[2 * REG.RCX]!;
  const given = isWrite ? lane.exit.registers : lane.pcpu.registers.words;
  const low = given[2 * REG.RAX]!;
  const high = given[2 * REG.RDX]!;
  const row = find(lane, index);
  const { words } = lane.memory;
  const action =
    row === NONE
      ? CARETAKER_MSR_ACTION.VALUE
      : words[(row + (isWrite ? ROW.write_action : ROW.read_action)) >>> 2];
  switch (action) {
    case CARETAKER_MSR_ACTION.ROUTE:
      return 'was answered, although the policy gives it to KVM';
    case CARETAKER_MSR_ACTION.IGNORE:
      return isWrite || (low === 0 && high === 0) ? null : 'does not read as 0';
    case CARETAKER_MSR_ACTION.VMCS: {
      const slot = slotOf(words[(row + ROW.vmcs_field) >>> 2]!);
      if (slot === NO_SLOT) return null;
      const field = lane.vmcs.words;
      return field[2 * slot] === low && field[2 * slot + 1] === high
        ? null
        : `is not what ${fieldAt(slot).name} holds`;
    }
    default:
  }
  if (index === MSR.IA32_TSC_DEADLINE && !isWrite) return wrongDeadline(lane, low, high);
  const home = homeOf(lane, row, index);
  if (home === NONE) return isWrite ? null : wrongApicRead(lane, index, low, high);
  const isNarrow = index >= X2APIC_FIRST && index <= X2APIC_LAST && index !== X2APIC.ICR;
  const homeHigh = isNarrow ? 0 : words[home + 1]!;
  if (words[home] === low && homeHigh === high) return null;
  return isWrite ? 'was written and soft state has another value' : 'is not what soft state holds';
}

/** A register of the virtual APIC that follows from others, or that VM entry moves. */
function wrongApicRead(lane: Lane, index: number, low: number, high: number): string | null {
  const { inService, requested, tpr } = lane.exit.apic;
  const is = (wanted: number): string | null =>
    low === wanted && high === 0 ? null : `reads as ${hex(low)}, should be ${hex(wanted)}`;
  if (index === X2APIC.LDR) return is(logicalIdOf(lane.vcpu.apicId));
  if (index === X2APIC.PPR)
    return is(
      processorPriority(
        tpr,
        highestOf((i) => inService[i]!),
      ),
    );
  if (index >= X2APIC.ISR0 && index < X2APIC.ISR0 + REGISTERS_A_SET)
    return is(inService[index - X2APIC.ISR0]!);
  if (index < X2APIC.IRR0 || index >= X2APIC.IRR0 + REGISTERS_A_SET) return null;
  const set = index - X2APIC.IRR0;
  // Others may have posted more, which waits or is in service by now; nothing else may be there.
  const now = requestedNow(lane.memory.words, lane.softState >>> 2, set);
  const entered = lane.memory.words[((lane.softState + SOFT.isr) >>> 2) + set]!;
  const isAll = (requested[set]! & ~low) === 0 && (low & ~(requested[set]! | now | entered)) === 0;
  return isAll && high === 0 ? null : `reads as ${hex(low)}, should be ${hex(requested[set]!)}`;
}

/** The deadline as it stands; one that has passed since is gone from soft state. */
function wrongDeadline(lane: Lane, low: number, high: number): string | null {
  const at = (lane.softState + SOFT.tsc_deadline) >>> 2;
  const { words } = lane.memory;
  if (words[at] === low && words[at + 1] === high) return null;
  const isGone = words[at] === 0 && words[at + 1] === 0;
  const isPast = low + high * 0x1_0000_0000 <= lane.pcpu.now() + lane.tscOffset;
  return isGone && isPast ? null : "is not the guest's deadline";
}

/** The offset of an MSR's row in memory, or NONE. */
function find(lane: Lane, index: number): number {
  const { words } = lane.memory;
  const count = Math.min(words[(lane.config + CONFIG.msr_count) >>> 2]!, CARETAKER_MSR_MAX);
  let row = lane.config + CONFIG.msr;
  for (let i = 0; i < count; i++, row += CARETAKER_MSR.sizeBytes) {
    if (words[(row + ROW.index) >>> 2] === index) return row;
  }
  return NONE;
}

function writesReservedBits(lane: Lane, row: number): boolean {
  const { registers } = lane.exit;
  const at = (row + ROW.writable) >>> 2;
  const { words } = lane.memory;
  return (
    (registers[2 * REG.RAX]! & ~words[at]!) !== 0 ||
    (registers[2 * REG.RDX]! & ~words[at + 1]!) !== 0
  );
}
