/**
 * KVM has called the payload's run entry: what the guest was then, so that the VM entry behind it can be judged.
 *
 * Source: CONTRACT ("Entry points": run; "Soft state"); SDM, "VM-Entry Controls for Event Injection".
 * Invariant: nothing is changed that a payload or KVM could see.
 */
import { CARETAKER_CCB, CARETAKER_REGISTER_ORDER } from '../../abi/ccb.js';
import { offsetsOf } from '../../abi/layout.js';
import { CARETAKER_SOFT_STATE } from '../../abi/soft-state.js';
import { VMCS_SLOT } from '../../abi/vmcs-fields.js';
import { REG } from '../cpu/registers.js';
import { sweep } from '../vmx/entry-checks/evaluate.js';
import type { Lane } from './lane.js';
import type { Machine } from './machine.js';

const SAVE_AREA = offsetsOf<'registers'>(CARETAKER_CCB).registers;
const SAVE_ORDER = CARETAKER_REGISTER_ORDER.map((name) => REG[name]);
const SOFT = offsetsOf<'event_info' | 'event_error_code'>(CARETAKER_SOFT_STATE);

/** The core is at the first instruction of the run entry. */
export function beginRun(machine: Machine, lane: Lane): void {
  const { run, exit, pcpu, memory } = lane;
  if (!lane.hasVmcs) return;
  // What KVM wrote is not the payload's.
  sweep(lane.vmcs);
  run.beginRun(lane.vmcs, exit.sequence, eventOf(lane));
  const saved = (lane.ccb + SAVE_AREA) >>> 2;
  SAVE_ORDER.forEach((register, index) => {
    run.registers[2 * register] = memory.words[saved + 2 * index]!;
    run.registers[2 * register + 1] = memory.words[saved + 2 * index + 1]!;
  });
  run.apic.take(memory.words, lane.softState >>> 2);
  run.tsc = pcpu.now();
  run.instructions = pcpu.engine.counters.instructions;
  run.wasAttached = lane.vcpu.isAttached;
  machine.hooks.atRun(lane, machine.ledger);
  lane.beginAccesses();
}

/** What the guest must get: what KVM has set up to inject, or else what was being delivered and soft state has. */
function eventOf(lane: Lane): { readonly info: number; readonly errorCode: number } {
  const { words } = lane.vmcs;
  const info = words[2 * VMCS_SLOT.VM_ENTRY_INTR_INFO_FIELD]!;
  const errorCode = words[2 * VMCS_SLOT.VM_ENTRY_EXCEPTION_ERROR_CODE]!;
  if (info >>> 31 === 1) return { info, errorCode };
  const soft = lane.softState >>> 2;
  return {
    info: lane.memory.words[soft + (SOFT.event_info >>> 2)]!,
    errorCode: lane.memory.words[soft + (SOFT.event_error_code >>> 2)]!,
  };
}

/** Whether VMRESUME, or VMLAUNCH, finds the launch state that it needs: the other one is only on the way to it. */
export function canEnter({ pcpu }: Lane, name: 'VMRESUME' | 'VMLAUNCH'): boolean {
  return pcpu.vmx.current?.launchState === (name === 'VMRESUME' ? 'launched' : 'clear');
}
