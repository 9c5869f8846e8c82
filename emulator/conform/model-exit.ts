/**
 * The model's side of a VM exit: entry, the event that comes first, and delivery.
 *
 * Source: emulator/vmx: vmEntry(), nextEvent(), accessGuestMemory(), deliverExit().
 * Invariant: what the case says of an event, of an injection or of an access is what the model must come to by itself; of
 * an instruction, whose exit only guest code can decide, the case's exit is delivered.
 */
import { HarnessBug } from '../../abi/errors.js';
import { INTR_TYPE, encodeInterruption, type InterruptionType } from '../../abi/interruption.js';
import { hex } from '../../abi/uint.js';
import { VMCS_SLOT, type FieldName } from '../../abi/vmcs-fields.js';
import { PhysicalMemory, type PhysicalBytes } from '../memory/physical-memory.js';
import type { VmxCapabilities } from '../vmx/capabilities.js';
import type { VmcsDescription } from '../vmx/description.js';
import { accessGuestMemory, type GuestAccess } from '../vmx/ept/guest-access.js';
import { nextEvent } from '../vmx/events.js';
import type { VmxPcpu } from '../vmx/ports.js';
import { ticksPerCount } from '../vmx/preemption-timer.js';
import { vmEntry, type InjectedEvent, type VmEntry } from '../vmx/vm-entry.js';
import { deliverExit, type VmExit } from '../vmx/vm-exit.js';
import type { Vmcs } from '../vmx/vmcs.js';
import { descriptionOf, type ExitCase } from './exit-case.js';
import { layOutGuest, type ValueWriter } from './guest-area.js';
import { modelPcpu, withVmcs, type ModelPcpu } from './model.js';

const INFORMATION = [
  'VM_EXIT_REASON',
  'EXIT_QUALIFICATION',
  'VM_EXIT_INTR_INFO',
  'VM_EXIT_INTR_ERROR_CODE',
  'IDT_VECTORING_INFO_FIELD',
  'IDT_VECTORING_ERROR_CODE',
  'VM_EXIT_INSTRUCTION_LEN',
  'VMX_INSTRUCTION_INFO',
  'GUEST_LINEAR_ADDRESS',
  'GUEST_PHYSICAL_ADDRESS',
] as const satisfies readonly FieldName[];

const GUEST_STATE = [
  'GUEST_RIP',
  'GUEST_RSP',
  'GUEST_RFLAGS',
  'GUEST_CR0',
  'GUEST_CR3',
  'GUEST_CR4',
  'GUEST_DR7',
  'GUEST_CS_SELECTOR',
  'GUEST_CS_AR_BYTES',
  'GUEST_SS_SELECTOR',
  'GUEST_SS_AR_BYTES',
  'GUEST_TR_SELECTOR',
  'GUEST_GDTR_LIMIT',
  'GUEST_IDTR_LIMIT',
  'GUEST_GS_BASE',
  'GUEST_INTERRUPTIBILITY_INFO',
  'GUEST_ACTIVITY_STATE',
  'GUEST_PENDING_DBG_EXCEPTIONS',
  'GUEST_IA32_EFER',
  'GUEST_IA32_PAT',
  'GUEST_SYSENTER_CS',
  'GUEST_S_CET',
  'GUEST_SSP',
  'GUEST_INTR_SSP_TABLE',
  'GUEST_PML_INDEX',
  'VM_ENTRY_CONTROLS',
  'VM_ENTRY_INTR_INFO_FIELD',
] as const satisfies readonly FieldName[];

/** What is compared of every exit, where it is defined. */
export const EXIT_FIELDS: readonly FieldName[] = [...INFORMATION, ...GUEST_STATE];

/** What the model makes of a case. */
export type ModelExit =
  | {
      readonly kind: 'exited';
      readonly pcpu: ModelPcpu;
      /** Every field that is defined. */
      readonly expected: ReadonlyMap<FieldName, bigint>;
      /** Where `dump` is read. */
      readonly dumped: PhysicalBytes;
    }
  /** It comes to something else than the case says, before anything can be compared. */
  | {
      readonly kind: 'otherwise';
      readonly what: string;
      readonly model: string;
      readonly wanted: string;
    };

type Entered = VmEntry & { readonly kind: 'entered' };

/** The tables end below this. */
const TABLE_BYTES = 2 << 20;

/** Enters and exits in the model. */
export function exitInModel(capabilities: VmxCapabilities, one: ExitCase): ModelExit {
  const pcpu = modelPcpu(capabilities);
  const description = descriptionOf(capabilities, one);
  const vmcs = withVmcs(pcpu, description);
  for (const [address, value] of one.memory ?? []) {
    if (address < BigInt(pcpu.memory.sizeBytes)) pcpu.memory.writeU64(address, value);
  }
  const entry = vmEntry(pcpu, vmcs, 'launch');
  if (entry.kind !== 'entered') {
    const rule = 'rule' in entry ? (entry.rule ?? '') : '';
    return otherwise('VM entry', `${entry.kind} ${rule}`, 'entered');
  }
  const early = one.pending === undefined ? null : tooEarly(vmcs, one);
  if (early !== null) return early;
  const rip = description.GUEST_RIP! + BigInt(one.rip ?? 0);
  const live: VmcsDescription = { GUEST_RIP: rip, ...one.after };
  for (const [name, value] of Object.entries(live) as [FieldName, bigint][])
    vmcs.write(name, value);
  const inGuest = { ...pcpu, memory: tables(one.memory) };
  for (const access of one.accesses ?? []) {
    const { kind } = accessGuestMemory(inGuest, vmcs, access);
    if (kind === 'exit') return otherwise('access', `exit at ${hex(access.gpa)}`, 'done');
  }
  const exit = exitOf(pcpu, vmcs, entry, one, inGuest);
  if ('kind' in exit) return exit;
  pcpu.tsc += one.ticks ?? 0;
  deliverExit(pcpu, vmcs, exit);
  const names = EXIT_FIELDS.slice();
  const comparesTimer = one.after?.VMX_PREEMPTION_TIMER_VALUE ?? one.ticks;
  if (comparesTimer !== undefined) names.push('VMX_PREEMPTION_TIMER_VALUE');
  const defined = names.filter((name) => !vmcs.isPoison(VMCS_SLOT[name]));
  return {
    kind: 'exited',
    pcpu,
    expected: new Map(defined.map((name) => [name, vmcs.read(name)])),
    dumped: one.accesses === undefined ? pcpu.memory : inGuest.memory,
  };
}

function otherwise(what: string, model: string, wanted: string): ModelExit & { kind: 'otherwise' } {
  return { kind: 'otherwise', what, model, wanted };
}

/** A guest in which only time passes. */
const SPINS = 'eb fe';

/** An exit that comes behind an instruction, or with time, must not come at VM entry. */
function tooEarly(vmcs: Vmcs, { rip = 0, exit, code, before = {} }: ExitCase): ModelExit | null {
  if (rip === 0 && code !== SPINS) return null;
  const next = nextEvent(vmcs, before);
  if (next.kind === 'none') return null;
  const what = next.kind === 'exit' ? `exit ${next.exit.basic}` : next.kind;
  return otherwise('event at VM entry', what, `exit ${exit.basic}, later`);
}

/** The exit that comes: of the pending event, of the access, of the event's delivery, or the instruction's. */
function exitOf(
  pcpu: ModelPcpu,
  vmcs: Vmcs,
  entry: Entered,
  one: ExitCase,
  inGuest: VmxPcpu,
): VmExit | (ModelExit & { kind: 'otherwise' }) {
  if (one.pending !== undefined) return eventOf(pcpu, vmcs, entry, one);
  if (one.access !== undefined) return walked(inGuest, vmcs, one.access);
  if (entry.event === null || one.exit.idtVectoringInfo === undefined) return one.exit;
  const exit = { ...one.exit, ...vectoringOf(entry.event) };
  // What the model leaves undefined is not compared: the case must leave it so too.
  const [model, wanted] = [exit.instructionLength, one.exit.instructionLength].map(String);
  return model === wanted ? exit : otherwise('instruction length', model!, wanted!);
}

/** The event that the model takes first. */
function eventOf(
  pcpu: ModelPcpu,
  vmcs: Vmcs,
  { event, timer }: Entered,
  one: ExitCase,
): VmExit | (ModelExit & { kind: 'otherwise' }) {
  const wanted = `exit ${one.exit.basic}`;
  if (one.pending?.timerExpired === true) {
    const shift = pcpu.capabilities.preemptionTimerShift;
    const first = vmcs.entryTsc + ((timer?.value ?? 0) - 1) * ticksPerCount(shift);
    const last = vmcs.entryTsc + (timer?.value ?? 0) * ticksPerCount(shift);
    const expiresAt = timer?.expiresAt ?? Infinity;
    if (expiresAt <= first || expiresAt > last)
      return otherwise('expiry of the preemption timer', `TSC ${expiresAt}`, `by TSC ${last}`);
    pcpu.tsc = expiresAt;
  }
  const isTrap = event?.type === INTR_TYPE.OTHER_EVENT;
  const next = nextEvent(vmcs, { ...one.pending, ...(isTrap ? { monitorTrap: true } : {}) });
  if (next.kind !== 'exit') return otherwise('event', next.kind, wanted);
  if (next.exit.basic !== one.exit.basic)
    return otherwise('event', `exit ${next.exit.basic}`, wanted);
  return next.exit;
}

/** IDT-vectoring information of an event whose delivery ends in an exit. */
function vectoringOf({ type, vector, errorCode, instructionLength }: InjectedEvent) {
  const name = (Object.keys(INTR_TYPE) as InterruptionType[]).find(
    (one) => INTR_TYPE[one] === type,
  );
  if (name === undefined) throw new HarnessBug(`no event has type ${type}`);
  return {
    idtVectoringInfo: encodeInterruption(name, vector, { deliverCode: errorCode !== null }),
    ...(errorCode === null ? {} : { idtVectoringErrorCode: errorCode }),
    instructionLength: instructionLength ?? undefined,
  };
}

/** The guest's tables in memory of their own. */
function tables(more: ExitCase['memory'] = []): PhysicalMemory {
  const memory = new PhysicalMemory(new ArrayBuffer(TABLE_BYTES));
  const writer: ValueWriter = {
    values: (address, ...values) => {
      values.forEach((value, index) => memory.writeU64(address + BigInt(8 * index), value));
      return writer;
    },
  };
  layOutGuest(writer);
  for (const [address, value] of more) {
    if (address < BigInt(TABLE_BYTES)) memory.writeU64(address, value);
  }
  return memory;
}

/** The exit that the guest's tables give the model for an access. */
function walked(
  pcpu: VmxPcpu,
  vmcs: Vmcs,
  access: GuestAccess,
): VmExit | (ModelExit & { kind: 'otherwise' }) {
  const result = accessGuestMemory(pcpu, vmcs, access);
  if (result.kind === 'done') return otherwise('access', `${hex(access.gpa)} is reached`, 'exit');
  return result.exit;
}
