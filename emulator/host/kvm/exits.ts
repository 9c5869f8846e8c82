/**
 * What KVM does with an exit that a Caretaker routes to it.
 *
 * Source: Linux arch/x86/kvm/vmx/vmx.c: kvm_vmx_exit_handlers, vmx_handle_exit(), skip_emulated_instruction();
 * kernel side of CONTRACT ("routed exit").
 * Invariant: guest registers are read and written in the CCB's save area; soft state is read at every routed exit.
 * Not modelled: emulation of guest instructions beyond what the exit information says; the VMM's devices.
 */
import { CARETAKER_CCB, CARETAKER_REGISTER_ORDER } from '../../../abi/ccb.js';
import { unreachable } from '../../../abi/errors.js';
import { EXIT_REASON, decodeExitReason } from '../../../abi/exit-reasons.js';
import {
  ACTIVITY,
  INTERRUPTIBILITY,
  INTR_INFO,
  decodeInterruption,
  encodeInterruption,
  PENDING_DBG,
  INTR_TYPE,
  VECTOR,
} from '../../../abi/interruption.js';
import { offsetsOf, StructView } from '../../../abi/layout.js';
import { CARETAKER_SOFT_STATE } from '../../../abi/soft-state.js';
import { high32, joinHalves, low32, toIndex, u64 } from '../../../abi/uint.js';
import { MCG_STATUS, MSR } from '../../../abi/msrs.js';
import type { FieldName } from '../../../abi/vmcs-fields.js';
import { X2APIC } from '../../../abi/x2apic.js';
import { clearBanks, severityOf } from '../../vmx/root/machine-check.js';
import type { Vmcs } from '../../vmx/vmcs.js';
import { readLapicMsr, writeLapicMsr, type ApicPeer } from './lapic.js';
import type { KvmMmu } from './mmu.js';
import type { KvmCpu, KvmKernel } from './ports.js';
import { cpuidLeaves } from './shared-config.js';

/** What comes of a routed exit. */
export type ExitVerdict =
  /** The guest goes on. */
  | { readonly kind: 'enter' }
  /** KVM_RUN returns to the VMM, which answers and calls again; `why` is KVM's exit reason. */
  | { readonly kind: 'user'; readonly why: 'io' | 'mmio' | 'hypercall' }
  /** The host or its VMM ends the vCPU, and that is not the payload's fault. */
  | { readonly kind: 'killed'; readonly why: string }
  /** The payload has made it impossible to go on. */
  | { readonly kind: 'dead'; readonly why: string };

/** The vCPU as an exit handler sees it. */
export interface ExitContext {
  readonly kernel: KvmKernel;
  readonly cpu: KvmCpu;
  readonly vmcs: Vmcs;
  readonly ccb: bigint;
  readonly self: ApicPeer;
  /** All vCPUs of the VM, this one too. */
  readonly peers: readonly ApicPeer[];
  /** The VM's nested page tables. */
  readonly mmu: KvmMmu;
  /** KVM's own MSRs; false when the index is none of them, or the value names no guest memory. */
  writePvMsr(index: number, value: bigint): boolean;
  /** Posts what KVM's IRQ routing has for a host vector that a guest's device owns, and kicks who is to take it. */
  forwardInterrupt(hostVector: number): void;
}

const CCB_REGISTERS = offsetsOf<'registers'>(CARETAKER_CCB).registers;
const CS_LONG = 0x2000n;
const RFLAGS_TF = 0x100n;
const DEBUGCTL_BTF = 2n;
const CR0_PE = 1n;

type RegisterName = (typeof CARETAKER_REGISTER_ORDER)[number];
const place = (context: ExitContext, name: RegisterName): bigint =>
  context.ccb + BigInt(CCB_REGISTERS + 8 * CARETAKER_REGISTER_ORDER.indexOf(name));

/** A guest register in the save area. */
function get(context: ExitContext, name: RegisterName): bigint {
  return context.kernel.memory.readU64(place(context, name));
}

function set(context: ExitContext, name: RegisterName, value: bigint): void {
  context.kernel.memory.writeU64(place(context, name), u64(value));
}

/** skip_emulated_instruction(): RIP, shadows, single-step. */
function skip({ vmcs }: ExitContext): ExitVerdict {
  const next = vmcs.read('GUEST_RIP') + vmcs.read('VM_EXIT_INSTRUCTION_LEN');
  const isLong = (vmcs.read('GUEST_CS_AR_BYTES') & CS_LONG) !== 0n;
  vmcs.write('GUEST_RIP', isLong ? u64(next) : next & 0xffff_ffffn);
  const shadows = BigInt(INTERRUPTIBILITY.STI | INTERRUPTIBILITY.MOV_SS);
  vmcs.write('GUEST_INTERRUPTIBILITY_INFO', vmcs.read('GUEST_INTERRUPTIBILITY_INFO') & ~shadows);
  const steps =
    (vmcs.read('GUEST_RFLAGS') & RFLAGS_TF) !== 0n &&
    (vmcs.read('GUEST_IA32_DEBUGCTL') & DEBUGCTL_BTF) === 0n;
  if (steps)
    vmcs.write(
      'GUEST_PENDING_DBG_EXCEPTIONS',
      vmcs.read('GUEST_PENDING_DBG_EXCEPTIONS') | BigInt(PENDING_DBG.BS),
    );
  return { kind: 'enter' };
}

const ENTER: ExitVerdict = { kind: 'enter' };

type Handler = (context: ExitContext) => ExitVerdict;

const cpuid: Handler = (context) => {
  const leaf = low32(get(context, 'RAX'));
  const subleaf = low32(get(context, 'RCX'));
  const leaves = cpuidLeaves(context.self.apicId);
  const found = leaves.find(
    (l) => l.leaf === leaf && ((l.flags & 1) === 0 || l.subleaf === subleaf),
  );
  const answer = found ?? { eax: 0, ebx: 0, ecx: 0, edx: 0 };
  set(context, 'RAX', BigInt(answer.eax));
  set(context, 'RBX', BigInt(answer.ebx));
  set(context, 'RCX', BigInt(answer.ecx));
  set(context, 'RDX', BigInt(answer.edx));
  return skip(context);
};

/** kvm_get_msr_common(): the APIC's and the timer's; others read as 0, as with KVM's ignore_msrs. */
const readMsr: Handler = (context) => {
  const index = low32(get(context, 'RCX'));
  const value = readLapicMsr(context.kernel.memory, context.self, index) ?? 0n;
  set(context, 'RAX', BigInt(low32(value)));
  set(context, 'RDX', BigInt(high32(value)));
  return skip(context);
};

/** kvm_set_msr_common(): the APIC's and the timer's, #GP for bits that they do not have; other writes are ignored. */
const writeMsr: Handler = (context) => {
  const index = low32(get(context, 'RCX'));
  if (context.writePvMsr(index, edxEax(context))) return skip(context);
  const { kernel, self, peers } = context;
  const isDone = writeLapicMsr(kernel.memory, self, peers, index, edxEax(context));
  return isDone ? skip(context) : injectGp(context);
};

/** kvm_inject_gp(): instead of the instruction; real mode pushes no error code. */
function injectGp({ kernel, self, vmcs }: ExitContext): ExitVerdict {
  const deliverCode = (vmcs.read('GUEST_CR0') & CR0_PE) !== 0n;
  const soft = new StructView(CARETAKER_SOFT_STATE, kernel.memory, self.softState);
  soft.set('event_info', encodeInterruption('HARD_EXCEPTION', VECTOR.GP, { deliverCode }));
  soft.set('event_error_code', 0);
  return ENTER;
}

/** RDPMC, RDRAND, RDSEED: no counter and no entropy in a run that is a pure function of its seed. */
const readZero: Handler = (context) => {
  set(context, 'RAX', 0n);
  set(context, 'RDX', 0n);
  return skip(context);
};

/** kvm_emulate_halt(): the guest halts on its core until its timer or an interrupt. */
const hlt: Handler = (context) => {
  context.vmcs.write('GUEST_ACTIVITY_STATE', BigInt(ACTIVITY.HLT));
  return skip(context);
};

const rdtsc: Handler = (context) => {
  const tsc = u64(BigInt(context.cpu.now()) + context.vmcs.read('TSC_OFFSET'));
  set(context, 'RAX', BigInt(low32(tsc)));
  set(context, 'RDX', BigInt(high32(tsc)));
  return skip(context);
};

/** handle_external_interrupt_irqoff(): the host's own handler runs, then EOI; a guest device's vector becomes pending. */
const externalInterrupt: Handler = (context) => {
  const info = low32(context.vmcs.read('VM_EXIT_INTR_INFO'));
  answerInterrupt(context, info & INTR_INFO.VECTOR_MASK);
  return ENTER;
};

function answerInterrupt(context: ExitContext, vector: number): void {
  endInterrupt(context, vector);
  context.forwardInterrupt(vector);
}

/** handle_spurious_interrupt(): what is not in service gets no EOI; a device may have the spurious vector too. */
function endInterrupt({ cpu }: ExitContext, vector: number): void {
  const word = cpu.msrs.read(X2APIC.ISR0 + (vector >>> 5)) ?? 0n;
  if (((word >> BigInt(vector & 31)) & 1n) !== 0n) cpu.msrs.write(X2APIC.EOI, 0n);
}

/** The host's NMI handler ends with IRET, which unblocks NMIs; a machine check goes to do_machine_check(). */
const exceptionOrNmi: Handler = (context) => {
  const info = decodeInterruption(low32(context.vmcs.read('VM_EXIT_INTR_INFO')));
  if (info.type === INTR_TYPE.NMI_INTR) context.cpu.blocking.nmi = false;
  if (info.type === INTR_TYPE.HARD_EXCEPTION && info.vector === VECTOR.DB) queueDebug(context);
  const isMachineCheck = info.type === INTR_TYPE.HARD_EXCEPTION && info.vector === VECTOR.MC;
  if (!isMachineCheck) return ENTER;
  const status = context.cpu.msrs.read(MSR.IA32_MCG_STATUS) ?? 0n;
  // The payload has taken it and left it to KVM: soft state had it.
  if ((status & MCG_STATUS.MCIP) === 0n) return ENTER;
  context.cpu.msrs.write(MSR.IA32_MCG_STATUS, 0n);
  return machineCheck(context, status);
};

/** kvm_queue_exception_p() and vmx_clear_hlt(): #DB is the guest's own, and DR6 gets what the exit qualification says. */
function queueDebug({ cpu, kernel, self, vmcs }: ExitContext): void {
  const soft = new StructView(CARETAKER_SOFT_STATE, kernel.memory, self.softState);
  putBack(soft, soft.number('event_info'));
  soft.set('event_info', encodeInterruption('HARD_EXCEPTION', VECTOR.DB));
  vmcs.write('GUEST_ACTIVITY_STATE', BigInt(ACTIVITY.ACTIVE));
  cpu.registers.set('DR6', cpu.registers.get('DR6') | vmcs.read('EXIT_QUALIFICATION'));
}

/** A trap comes before an interrupt or NMI of the same instruction boundary (kvm_check_and_inject_events()): that waits again. */
function putBack(soft: StructView, info: number): void {
  const event = decodeInterruption(info);
  if (!event.valid) return;
  if (event.type === INTR_TYPE.NMI_INTR) soft.set('virtual_nmi_pending', 1n);
  if (event.type !== INTR_TYPE.EXT_INTR) return;
  const bit = 1n << BigInt(event.vector & 63);
  const word = event.vector >> 6;
  soft.set(`isr[${word}]`, soft.get(`isr[${word}]`) & ~bit);
  soft.set(`irr[${word}]`, soft.get(`irr[${word}]`) | bit);
}

/**
 * do_machine_check() in kvm_machine_check(): what the banks say is dealt with and cleared.
 * DEVIATION: a VMM that gets SIGBUS may give its guest a machine check of its own; here it dies of it.
 */
function machineCheck({ cpu }: ExitContext, mcgStatus: bigint): ExitVerdict {
  const severity = severityOf(mcgStatus, (index) => cpu.msrs.read(index));
  clearBanks((index, value) => cpu.msrs.write(index, value));
  switch (severity) {
    case 'survivable':
      return ENTER;
    case 'action-required':
      return { kind: 'killed', why: 'memory_failure(): the VMM gets SIGBUS, BUS_MCEERR_AR' };
    case 'lost':
      return { kind: 'killed', why: 'a machine check that lost its context: the VMM gets SIGBUS' };
    default:
      return unreachable(severity);
  }
}

/** kvm_mmu_page_fault(): the page is mapped, or misconfigured as a device's, and the guest repeats its access. */
const eptViolation: Handler = ({ mmu, vmcs }) => {
  const isWrite = (vmcs.read('EXIT_QUALIFICATION') & EPT_VIOLATION_WRITE) !== 0n;
  const outcome = mmu.fault(vmcs.read('GUEST_PHYSICAL_ADDRESS'), isWrite);
  if (outcome !== 'no-memory') return ENTER;
  return { kind: 'killed', why: 'KVM_RUN ends with -ENOMEM: no page for an EPT table' };
};

/** Bit 1 of the qualification: the access was a write. */
const EPT_VIOLATION_WRITE = 2n;

const vmcall: Handler = (context) => {
  const KVM_ENOSYS = 1000n;
  set(context, 'RAX', u64(-KVM_ENOSYS));
  return skip(context);
};

const doorbell: Handler = (context) => {
  skip(context);
  return { kind: 'user', why: 'mmio' };
};

const portIo: Handler = (context) => {
  skip(context);
  return { kind: 'user', why: 'io' };
};

/** Trap-like exits and events: nothing to advance, nothing to answer. */
const nothing: Handler = () => ENTER;

const HANDLERS: ReadonlyMap<number, Handler> = new Map<number, Handler>([
  [EXIT_REASON.EXIT_REASON_EXCEPTION_NMI, exceptionOrNmi],
  [EXIT_REASON.EXIT_REASON_EXTERNAL_INTERRUPT, externalInterrupt],
  [EXIT_REASON.EXIT_REASON_INTERRUPT_WINDOW, nothing],
  [EXIT_REASON.EXIT_REASON_NMI_WINDOW, nothing],
  [EXIT_REASON.EXIT_REASON_INIT_SIGNAL, nothing],
  [EXIT_REASON.EXIT_REASON_CPUID, cpuid],
  [EXIT_REASON.EXIT_REASON_HLT, hlt],
  [EXIT_REASON.EXIT_REASON_INVD, skip],
  [EXIT_REASON.EXIT_REASON_INVLPG, skip],
  [EXIT_REASON.EXIT_REASON_RDPMC, readZero],
  [EXIT_REASON.EXIT_REASON_RDTSC, rdtsc],
  [EXIT_REASON.EXIT_REASON_RDTSCP, rdtsc],
  [EXIT_REASON.EXIT_REASON_VMCALL, vmcall],
  [EXIT_REASON.EXIT_REASON_CR_ACCESS, skip],
  [EXIT_REASON.EXIT_REASON_DR_ACCESS, skip],
  [EXIT_REASON.EXIT_REASON_IO_INSTRUCTION, portIo],
  [EXIT_REASON.EXIT_REASON_MSR_READ, readMsr],
  [EXIT_REASON.EXIT_REASON_MSR_WRITE, writeMsr],
  [EXIT_REASON.EXIT_REASON_MWAIT_INSTRUCTION, skip],
  [EXIT_REASON.EXIT_REASON_MONITOR_TRAP_FLAG, nothing],
  [EXIT_REASON.EXIT_REASON_MONITOR_INSTRUCTION, skip],
  [EXIT_REASON.EXIT_REASON_PAUSE_INSTRUCTION, skip],
  [EXIT_REASON.EXIT_REASON_TPR_BELOW_THRESHOLD, nothing],
  [EXIT_REASON.EXIT_REASON_APIC_ACCESS, skip],
  [EXIT_REASON.EXIT_REASON_EOI_INDUCED, nothing],
  [EXIT_REASON.EXIT_REASON_GDTR_IDTR, skip],
  [EXIT_REASON.EXIT_REASON_LDTR_TR, skip],
  [EXIT_REASON.EXIT_REASON_EPT_VIOLATION, eptViolation],
  [EXIT_REASON.EXIT_REASON_EPT_MISCONFIG, doorbell],
  [EXIT_REASON.EXIT_REASON_PREEMPTION_TIMER, nothing],
  [EXIT_REASON.EXIT_REASON_WBINVD, skip],
  [EXIT_REASON.EXIT_REASON_XSETBV, skip],
  [EXIT_REASON.EXIT_REASON_APIC_WRITE, nothing],
  [EXIT_REASON.EXIT_REASON_RDRAND, readZero],
  [EXIT_REASON.EXIT_REASON_RDSEED, readZero],
  [EXIT_REASON.EXIT_REASON_INVPCID, skip],
  [EXIT_REASON.EXIT_REASON_PML_FULL, nothing],
  [EXIT_REASON.EXIT_REASON_UMWAIT, skip],
  [EXIT_REASON.EXIT_REASON_TPAUSE, skip],
  [EXIT_REASON.EXIT_REASON_BUS_LOCK, nothing],
  [EXIT_REASON.EXIT_REASON_NOTIFY, nothing],
]);

const STOPPED: ReadonlyMap<number, Handler> = new Map([
  ...HANDLERS,
  [EXIT_REASON.EXIT_REASON_EXTERNAL_INTERRUPT, nothing],
]);

/** vmx_handle_exit() for the exit in the current VMCS; then the event whose delivery it broke off is queued again. */
export function handleRoutedExit(context: ExitContext, handlers = HANDLERS): ExitVerdict {
  const reason = decodeExitReason(low32(context.vmcs.read('VM_EXIT_REASON')));
  if (reason.failedVmentry)
    return { kind: 'killed', why: `KVM_EXIT_FAIL_ENTRY, reason ${reason.basic}` };
  const handler = handlers.get(reason.basic);
  if (handler === undefined)
    return { kind: 'killed', why: `KVM_EXIT_UNKNOWN, reason ${reason.basic}` };
  const verdict = handler(context);
  requeueEvent(context);
  return verdict;
}

/** An exit that was unanswered when the vCPU stopped: its interrupt, if it is one, is in soft state. */
export const handleStoppedExit = (context: ExitContext): ExitVerdict =>
  handleRoutedExit(context, STOPPED);

/**
 * The host's events that the payload took in root operation or could not answer (CONTRACT, "CR3 policies"): an NMI, whose
 * IRET it has done; an interrupt that it acknowledged; a machine check, whose MCIP it has cleared.
 */
export function takeHostEvents(context: ExitContext): ExitVerdict {
  const soft = new StructView(CARETAKER_SOFT_STATE, context.kernel.memory, context.self.softState);
  const take = (field: string): bigint => {
    const value = soft.get(field);
    if (value !== 0n) soft.set(field, 0n);
    return value;
  };
  take('host_nmi_pending');
  const vector = toIndex(take('acknowledged_vector'));
  if (vector !== 0) answerInterrupt(context, vector);
  const status = take('mcg_status');
  return status === 0n ? ENTER : machineCheck(context, status);
}

/** __vmx_complete_interrupts() and the injection of what it queued: soft state carries the event here. */
function requeueEvent({ kernel, self, vmcs }: ExitContext): void {
  const soft = new StructView(CARETAKER_SOFT_STATE, kernel.memory, self.softState);
  const info = soft.number('event_info');
  if (info >>> 31 === 0) return;
  const fields: readonly (readonly [FieldName, string])[] = [
    ['VM_ENTRY_INTR_INFO_FIELD', 'event_info'],
    ['VM_ENTRY_EXCEPTION_ERROR_CODE', 'event_error_code'],
    ['VM_ENTRY_INSTRUCTION_LEN', 'event_instruction_length'],
  ];
  for (const [field, name] of fields) vmcs.write(field, soft.get(name));
  soft.set('event_info', 0);
}

/** EDX:EAX of a guest in the save area. */
function edxEax(context: ExitContext): bigint {
  return joinHalves(low32(get(context, 'RDX')), low32(get(context, 'RAX')));
}
