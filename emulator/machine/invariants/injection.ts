/**
 * What VM entry injects and waits for (part of `interrupts`): the highest vector above the processor's priority, and a
 * window exactly when something waits for one.
 *
 * Source: SDM, "Interrupt Acceptance for Fixed Interrupts", "Interrupt-Window Exiting and Virtual-Interrupt Delivery",
 * "NMI-Window Exiting"; CONTRACT ("What the payload handles").
 * Invariant: judged by the requests that were there at the exit: one that comes after the choice waits for its window.
 */
import { INTR_TYPE } from '../../../abi/interruption.js';
import { offsetsOf } from '../../../abi/layout.js';
import { CARETAKER_SOFT_STATE } from '../../../abi/soft-state.js';
import { VMCS_SLOT } from '../../../abi/vmcs-fields.js';
import { PIN, PRIMARY } from '../../../abi/vmx-controls.js';
import { AT_EXIT } from '../exit-record.js';
import type { Lane } from '../lane.js';
import { deliverableNow, highestOf, processorPriority, requestedNow } from '../virtual-apic.js';

const SOFT = offsetsOf<'tpr' | 'isr' | 'virtual_nmi_pending'>(CARETAKER_SOFT_STATE);

/** Why the interrupt that VM entry injects is not the one that is due, or null. */
export function wrongVector(lane: Lane): string | null {
  const event = lane.vmcs.words[2 * VMCS_SLOT.VM_ENTRY_INTR_INFO_FIELD]!;
  if (event >>> 31 === 0 || ((event >>> 8) & 7) !== INTR_TYPE.EXT_INTR) return null;
  // Its delivery was broken off: it was chosen before.
  if (lane.exit.wasDeliveringEvent) return null;
  const vector = event & 0xff;
  const { words } = lane.memory;
  const soft = lane.softState >>> 2;
  const { requested } = lane.exit.apic;
  const higher = highestOf((i) => requestedNow(words, soft, i) & requested[i]!);
  if (higher > vector) return `vector ${vector} is injected before vector ${higher}`;
  // VM entry has put it in service: what was there before counts.
  const isr = soft + (SOFT.isr >>> 2);
  const others = highestOf((i) =>
    i === vector >>> 5 ? words[isr + i]! & ~(1 << (vector & 31)) : words[isr + i]!,
  );
  const priority = processorPriority(words[soft + (SOFT.tpr >>> 2)]! & 0xff, others);
  if (vector >>> 4 > priority >>> 4) return null;
  return `vector ${vector} is injected at processor priority ${priority}`;
}

/** Which window control is not as what waits wants it, or null. */
export function wrongWindow(lane: Lane): string | null {
  const { words } = lane.memory;
  const soft = lane.softState >>> 2;
  const primary = lane.vmcs.words[2 * VMCS_SLOT.CPU_BASED_VM_EXEC_CONTROL]!;
  const waiting = deliverableNow(words, soft);
  const hasWindow = (primary & PRIMARY.INTR_WINDOW_EXITING) !== 0;
  if (hasWindow !== (waiting !== 0)) return inWords('interrupt', hasWindow, waiting);
  const isNmiWaiting = words[soft + (SOFT.virtual_nmi_pending >>> 2)] !== 0;
  const hasNmiWindow = (primary & PRIMARY.NMI_WINDOW_EXITING) !== 0;
  // Without virtual NMIs there is no such window.
  const pin = lane.exit.low(AT_EXIT.PIN_BASED_VM_EXEC_CONTROL);
  const isNmiWanted = isNmiWaiting && (pin & PIN.VIRTUAL_NMIS) !== 0;
  return hasNmiWindow === isNmiWanted ? null : inWords('NMI', hasNmiWindow, isNmiWaiting ? 2 : 0);
}

function inWords(what: string, isSet: boolean, vector: number): string {
  const waits = vector === 0 ? 'nothing waits for it' : `vector ${vector} waits`;
  return `${what}-window exiting is ${isSet ? 1 : 0} and ${waits}`;
}
