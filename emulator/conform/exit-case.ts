/**
 * One exit that guest code makes for real, and how rows of them are written.
 *
 * Source: SDM, "Information for VM Exits Due to Instruction Execution".
 * Invariant: `exit` leaves out what the architecture leaves undefined, and then it is not compared.
 */
import { EXIT_REASON } from '../../abi/exit-reasons.js';
import type { FieldName } from '../../abi/vmcs-fields.js';
import type { PendingEvents } from '../vmx/events.js';
import type { GuestAccess } from '../vmx/ept/guest-access.js';
import type { VmExit } from '../vmx/vm-exit.js';
import type { VmcsDescription } from '../vmx/description.js';
import type { VmxCapabilities } from '../vmx/capabilities.js';
import { guestVmcs } from './guest-area.js';
import type { GeneralRegisters } from './program.js';

/** One exit to provoke. */
export interface ExitCase {
  readonly title: string;
  /** The guest's code as hexadecimal bytes. */
  readonly code: string;
  readonly exit: VmExit;
  /** The exit is that of an event, and this is what is pending when it comes: the model must find `exit` by itself. */
  readonly pending?: PendingEvents;
  /** What was pending at VM entry already; default nothing. */
  readonly before?: PendingEvents;
  /** The access that exits: in the guest's own EPT the model finds `exit` for it. */
  readonly access?: GuestAccess;
  readonly registers?: GeneralRegisters;
  /** Fields of the VMCS besides; controls to add are in `controls`. */
  readonly fields?: VmcsDescription;
  /** Control bits to set. */
  readonly controls?: Readonly<Partial<Record<FieldName, number>>>;
  /** Control bits to clear. */
  readonly without?: Readonly<Partial<Record<FieldName, number>>>;
  /** How far GUEST_RIP is from the start of the code at the exit; default 0. */
  readonly rip?: number;
  /** Guest-state fields that differ at the exit from what VM entry loaded. */
  readonly after?: VmcsDescription;
  /** General registers that differ at the exit. */
  readonly registersAfter?: GeneralRegisters;
  /** MSRs to write on the host before entry. */
  readonly msrs?: readonly (readonly [index: number, value: bigint])[];
  /** Values to write to memory before entry. */
  readonly memory?: readonly (readonly [address: bigint, value: bigint])[];
  /** What the guest reaches before, which leaves flags in its EPT. */
  readonly accesses?: readonly GuestAccess[];
  /** Memory that is compared after the exit. */
  readonly dump?: { readonly address: bigint; readonly length: number };
  /** What a second processor writes to its ICR once the guest runs; the case is isolated. */
  readonly sent?: bigint;
  /** Whether NMIs are blocked behind the exit is tried on the host; the case is isolated. */
  readonly blocksNmi?: boolean;
  /** The host has blocked NMIs and sent itself one, which is pending at VM entry; the case is isolated. */
  readonly nmiPending?: boolean;
  /** Ticks of the TSC from VM entry to the exit, where the case is about them. */
  readonly ticks?: number;
  /** Bits of a field that the architecture defines here; the others are not compared. */
  readonly defined?: VmcsDescription;
  /** It leaves something pending or blocked, so that it gets a boot of its own. */
  readonly isolated?: true;
}

/** An exit of an instruction, by the name of its reason. */
export function instruction(
  name: keyof typeof EXIT_REASON,
  length: number,
  rest: Partial<VmExit> = {},
): VmExit {
  return { basic: EXIT_REASON[name], qualification: 0n, instructionLength: length, ...rest };
}
/** Primary processor-based controls to set. */
export const primary = (...bits: number[]) => ({
  CPU_BASED_VM_EXEC_CONTROL: bits.reduce((all, bit) => all | bit, 0),
});
/** Secondary processor-based controls to set. */
export const secondary = (...bits: number[]) => ({
  SECONDARY_VM_EXEC_CONTROL: bits.reduce((all, bit) => all | bit, 0),
});

/** The VMCS that a case enters its guest with. */
export function descriptionOf(
  capabilities: VmxCapabilities,
  one: Pick<ExitCase, 'fields' | 'controls' | 'without'>,
): VmcsDescription {
  const description: Partial<Record<FieldName, bigint>> = {
    ...guestVmcs(capabilities, one.fields),
  };
  for (const [name, bits] of Object.entries(one.controls ?? {}) as [FieldName, number][]) {
    description[name] = description[name]! | BigInt(bits >>> 0);
  }
  for (const [name, bits] of Object.entries(one.without ?? {}) as [FieldName, number][]) {
    description[name] = description[name]! & ~BigInt(bits >>> 0);
  }
  return description;
}
