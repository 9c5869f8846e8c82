/**
 * One VM exit while it is being handled, or one call of the run entry: what the guest was, so that what it becomes can be
 * judged.
 *
 * Source: CONTRACT ("Outcome of an exit", "What the payload handles", "Entry points": run).
 * Invariant: filled once at the exit and not changed by the handler; general registers are those at HOST_RIP.
 * One record a vCPU, reused for every exit: this is the hot path, so values are words in typed arrays.
 */
import { decodeExitReason, EXIT_REASON } from '../../abi/exit-reasons.js';
import { INTR_TYPE, VECTOR } from '../../abi/interruption.js';
import { VMCS_SLOT, type FieldName } from '../../abi/vmcs-fields.js';
import type { RegisterFile } from '../cpu/registers.js';
import { ApicAtExit } from './virtual-apic.js';
import type { Severity } from '../vmx/root/machine-check.js';
import type { Vmcs } from '../vmx/vmcs.js';

/** The first outcome of an exit (CONTRACT, "Outcome of an exit"). */
export type Outcome = 'fastpath' | 'routed' | 'blocked';

/** What ended, or may end, a payload's work: the record that it owes before it parks the core. */
export interface FatalEvent {
  readonly vector: number;
  /** 0 where the vector has none. */
  readonly errorCode: number;
  readonly rip: bigint;
  readonly cr2: bigint;
}

/** Words of the 16 general registers at the front of a register file. */
export const GENERAL_WORDS = 32;

/** Fields that the invariants compare, saved at the exit. */
// prettier-ignore
const SAVED = [
  'GUEST_RIP', 'GUEST_RFLAGS', 'GUEST_INTERRUPTIBILITY_INFO', 'GUEST_ACTIVITY_STATE', 'GUEST_PENDING_DBG_EXCEPTIONS',
  'VM_EXIT_INSTRUCTION_LEN', 'VM_EXIT_INTR_INFO', 'IDT_VECTORING_INFO_FIELD', 'IDT_VECTORING_ERROR_CODE', 'EXIT_QUALIFICATION',
  'PIN_BASED_VM_EXEC_CONTROL', 'CPU_BASED_VM_EXEC_CONTROL',
] as const satisfies readonly FieldName[];
const SLOTS = SAVED.map((name) => VMCS_SLOT[name]);

/** Where a record keeps each saved field. */
export const AT_EXIT = Object.fromEntries(SAVED.map((name, index) => [name, index])) as Readonly<
  Record<(typeof SAVED)[number], SavedField>
>;
/** A value of AT_EXIT. */
export type SavedField = number & { readonly savedField: true };

/** `basic` of a record that a call of the run entry began: no VM exit has it. */
export const RUN = -1;

export class ExitRecord {
  /** Counts this vCPU's exits from 1; 0 before the first. */
  sequence = 0;
  /** The whole 32-bit exit-reason word. */
  reasonWord = 0;
  basic = 0;
  failedVmentry = false;
  /** attach_state when the exit happened. */
  wasAttached = false;
  // Counts that outgrow 31 bits begin as NaN: a field that turns from an integer into a double undoes what was compiled.
  /** TSC at the exit, in ticks. */
  tsc = NaN;
  /** The engine's instruction count at HOST_RIP. */
  instructions = NaN;
  /** First outcome, null while undecided. */
  outcome: Outcome | null = null;
  /** TSC ticks waited in a spin, 0 without. */
  stallTicks = NaN;
  /** Instructions in waits and in interposed handlers, which the bound leaves out. */
  waitedInstructions = NaN;
  /** The payload was entered here because of a fault, an NMI or an interrupt of its own. */
  interposed = 0;
  /** NMIs and machine checks that the payload took in this exit, the exit itself if it is one. */
  nmis = 0;
  machineChecks = 0;
  /** Those among them that came in the payload while KVM was attached: they are the host's. */
  hostNmis = 0;
  hostMachineChecks = 0;
  /** What the machine check that caused the exit left of the guest. */
  severity: Severity = 'survivable';
  /** A machine check came in the payload after which it must not go on. */
  mustPark = false;
  /** A machine check came after which nothing need go on: the payload may park the core, KVM may kill the VMM. */
  mayEnd = false;
  /** Faults of the payload's own in this exit, and machine checks. */
  readonly fatal: FatalEvent[] = [];
  /** Where the CPU pushed the last machine check's frame, 0 without one. */
  machineCheckFrame = 0n;
  /** Frames that events pushed on interrupt stacks in this exit. */
  readonly frames = new Set<bigint>();
  /** KVM took back a request that the payload may have seen, or served, in this exit. */
  requestEnded = false;
  /** The exit waited for KVM before anything else became of it. */
  hasWaited = false;
  /** The payload has said `serialized`. */
  hasStopped = false;
  /** Physical EOIs of the handler's that ended nothing. */
  strayEois = 0;
  /** The virtual local APIC, before the payload changed it. */
  readonly apic = new ApicAtExit();
  readonly registers = new Uint32Array(GENERAL_WORDS);
  readonly #fields = new Uint32Array(2 * SAVED.length);

  /** Takes over what the hardware just delivered. */
  begin(registers: RegisterFile, vmcs: Vmcs): void {
    this.sequence++;
    this.reasonWord = vmcs.words[2 * VMCS_SLOT.VM_EXIT_REASON]!;
    this.basic = this.reasonWord & 0xffff;
    this.failedVmentry = decodeExitReason(this.reasonWord).failedVmentry;
    this.outcome = null;
    const words = registers.words;
    for (let i = 0; i < GENERAL_WORDS; i++) this.registers[i] = words[i]!;
    this.#begin(vmcs);
    this.nmis = this.isNmi ? 1 : 0;
    this.machineChecks = this.isMachineCheck ? 1 : 0;
  }

  /**
   * Takes over what KVM hands to the run entry behind exit `sequence`: all there is to do is to enter the guest, and
   * `event` is delivered as one is whose delivery an exit broke off. The caller fills in the registers.
   */
  beginRun(vmcs: Vmcs, sequence: number, event: { info: number; errorCode: number }): void {
    this.sequence = sequence;
    this.basic = RUN;
    this.outcome = 'fastpath';
    this.#begin(vmcs);
    this.#setLow(AT_EXIT.VM_EXIT_INTR_INFO, 0);
    this.#setLow(AT_EXIT.IDT_VECTORING_INFO_FIELD, event.info);
    this.#setLow(AT_EXIT.IDT_VECTORING_ERROR_CODE, event.errorCode);
  }

  #begin(vmcs: Vmcs): void {
    this.stallTicks = 0;
    this.waitedInstructions = 0;
    this.interposed = 0;
    this.strayEois = 0;
    this.hasWaited = false;
    this.hasStopped = false;
    this.requestEnded = false;
    this.hostNmis = 0;
    this.hostMachineChecks = 0;
    this.mayEnd = false;
    this.mustPark = false;
    this.severity = 'survivable';
    if (this.fatal.length > 0) this.fatal.length = 0;
    this.machineCheckFrame = 0n;
    if (this.frames.size > 0) this.frames.clear();
    for (let i = 0; i < SLOTS.length; i++) {
      this.#fields[2 * i] = vmcs.words[2 * SLOTS[i]!]!;
      this.#fields[2 * i + 1] = vmcs.words[2 * SLOTS[i]! + 1]!;
    }
  }

  /** Becomes a copy of another record; a snapshot of one is a record. */
  copyFrom(other: ExitRecord): this {
    this.sequence = other.sequence;
    this.reasonWord = other.reasonWord;
    this.basic = other.basic;
    this.failedVmentry = other.failedVmentry;
    this.wasAttached = other.wasAttached;
    this.tsc = other.tsc;
    this.instructions = other.instructions;
    this.outcome = other.outcome;
    this.stallTicks = other.stallTicks;
    this.waitedInstructions = other.waitedInstructions;
    this.interposed = other.interposed;
    this.nmis = other.nmis;
    this.machineChecks = other.machineChecks;
    this.hostNmis = other.hostNmis;
    this.hostMachineChecks = other.hostMachineChecks;
    this.mayEnd = other.mayEnd;
    this.mustPark = other.mustPark;
    this.severity = other.severity;
    this.fatal.splice(0, Infinity, ...other.fatal);
    this.machineCheckFrame = other.machineCheckFrame;
    this.frames.clear();
    for (const frame of other.frames) this.frames.add(frame);
    this.hasWaited = other.hasWaited;
    this.hasStopped = other.hasStopped;
    this.requestEnded = other.requestEnded;
    this.strayEois = other.strayEois;
    this.apic.copyFrom(other.apic);
    this.registers.set(other.registers);
    this.#fields.set(other.#fields);
    return this;
  }

  /** The low 32 bits of a saved field. */
  low(field: SavedField): number {
    return this.#fields[2 * field]!;
  }

  /** The high 32 bits of a saved field. */
  high(field: SavedField): number {
    return this.#fields[2 * field + 1]!;
  }

  #setLow(field: SavedField, value: number): void {
    this.#fields[2 * field] = value;
  }

  /** Whether bit 31 of the saved IDT-vectoring information is set. */
  get wasDeliveringEvent(): boolean {
    return this.low(AT_EXIT.IDT_VECTORING_INFO_FIELD) >>> 31 === 1;
  }

  /** An NMI that caused the exit (reason 0, type 2). */
  get isNmi(): boolean {
    return (
      this.basic === EXIT_REASON.EXIT_REASON_EXCEPTION_NMI &&
      ((this.low(AT_EXIT.VM_EXIT_INTR_INFO) >>> 8) & 7) === INTR_TYPE.NMI_INTR
    );
  }

  /** A machine check that caused the exit. */
  get isMachineCheck(): boolean {
    const MACHINE_CHECK = (INTR_TYPE.HARD_EXCEPTION << 8) | VECTOR.MC;
    return (
      this.basic === EXIT_REASON.EXIT_REASON_EXCEPTION_NMI &&
      (this.low(AT_EXIT.VM_EXIT_INTR_INFO) & 0x7ff) === MACHINE_CHECK
    );
  }
}
