/**
 * What an answer must do beside moving RIP: fault only where the architecture and the policy fault, give the guest its
 * own time and MSRs, and leave activity, interruptibility and pending debug exceptions as the instruction would.
 *
 * Source: SDM, "Guest Non-Register State", "Information for VM Exits Due to Vectored Events"; CONTRACT ("What the payload
 * handles").
 * Invariant: nothing is allocated while all is well.
 */
import { CARETAKER_CONFIG, CARETAKER_HLT_POLICY } from '../../../abi/config.js';
import { EXIT_REASON } from '../../../abi/exit-reasons.js';
import { ACTIVITY, INTERRUPTIBILITY, INTR_TYPE, PENDING_DBG } from '../../../abi/interruption.js';
import { offsetsOf } from '../../../abi/layout.js';
import { CARETAKER_SOFT_STATE } from '../../../abi/soft-state.js';
import { hex } from '../../../abi/uint.js';
import { VMCS_SLOT } from '../../../abi/vmcs-fields.js';
import { REG } from '../../cpu/registers.js';
import { AT_EXIT, RUN } from '../exit-record.js';
import type { Lane } from '../lane.js';
import type { Ledger } from '../ledger.js';
import { msrFaultDue, wrongMsrAnswer, type FaultDue } from './msr-answers.js';

const HLT_POLICY = offsetsOf<'hlt_policy'>(CARETAKER_CONFIG).hlt_policy;
const SOFT = offsetsOf<'irr' | 'virtual_nmi_pending'>(CARETAKER_SOFT_STATE);
const IRR_WORDS = 8;
const GP = 13;
const DF = 8;
const UNBLOCKED_NMI = 1 << 12;
const SHADOWS = INTERRUPTIBILITY.STI | INTERRUPTIBILITY.MOV_SS;
const NMI_BLOCKING = INTERRUPTIBILITY.NMI;
const BS = PENDING_DBG.BS;
const TF = 1 << 8;
const BTF = 1 << 1;

/** Reasons whose instruction or event never gives the guest a fault. */
const NEVER_FAULTS = new Uint8Array(128);
for (const reason of [
  EXIT_REASON.EXIT_REASON_CPUID,
  EXIT_REASON.EXIT_REASON_HLT,
  EXIT_REASON.EXIT_REASON_PAUSE_INSTRUCTION,
  EXIT_REASON.EXIT_REASON_RDTSC,
  EXIT_REASON.EXIT_REASON_RDTSCP,
  EXIT_REASON.EXIT_REASON_EXTERNAL_INTERRUPT,
  EXIT_REASON.EXIT_REASON_INTERRUPT_WINDOW,
  EXIT_REASON.EXIT_REASON_NMI_WINDOW,
  EXIT_REASON.EXIT_REASON_PREEMPTION_TIMER,
]) {
  NEVER_FAULTS[reason] = 1;
}
// Nothing was executed, and an event of KVM's is no fault.
NEVER_FAULTS[RUN & 127] = 1;

const entryEvent = (lane: Lane): number => lane.vmcs.words[2 * VMCS_SLOT.VM_ENTRY_INTR_INFO_FIELD]!;

/** Whether the guest's instruction raises an exception when it is answered. */
export function faultDue(lane: Lane): FaultDue {
  const { basic } = lane.exit;
  if (NEVER_FAULTS[basic & 127] === 1) return 'never';
  return isMsrAccess(basic) ? msrFaultDue(lane) : 'may';
}

const isMsrAccess = (basic: number): boolean =>
  basic === EXIT_REASON.EXIT_REASON_MSR_READ || basic === EXIT_REASON.EXIT_REASON_MSR_WRITE;

/** A fault is injected where one is due and nowhere else. */
export function faultIsLegal(lane: Lane, ledger: Ledger): void {
  const due = faultDue(lane);
  const faults = lane.injectsFault();
  const vector = entryEvent(lane) & 0xff;
  if (faults && (due === 'never' || (isMsrAccess(lane.exit.basic) && vector !== GP))) {
    ledger.fail(
      'rip',
      lane.rip,
      `${lane.describeExit()}: the guest gets exception ${vector}, which its instruction does not raise`,
    );
  } else if (!faults && due === 'must' && !lane.exit.wasDeliveringEvent) {
    ledger.fail(
      'rip',
      lane.rip,
      `${lane.describeExit()}: the policy has #GP(0) for MSR ${lane.registerAtExit('RCX')} and none is injected`,
    );
  }
}

/** RDTSC, RDTSCP, RDMSR and WRMSR, when they complete. */
export function valuesAreTheGuests(lane: Lane, ledger: Ledger): void {
  const { basic } = lane.exit;
  if (lane.injectsFault()) return;
  if (basic === EXIT_REASON.EXIT_REASON_RDTSC || basic === EXIT_REASON.EXIT_REASON_RDTSCP) {
    const { words } = lane.pcpu.registers;
    const seen = words[2 * REG.RAX]! + words[2 * REG.RDX]! * 0x1_0000_0000 - lane.tscOffset;
    if (seen >= lane.exit.tsc && seen <= lane.pcpu.now()) return;
    ledger.fail(
      'time',
      lane.rip,
      `${lane.describeExit()}: gave host TSC ${seen}, the exit lasted from ${lane.exit.tsc} to ${lane.pcpu.now()}`,
    );
    return;
  }
  if (!isMsrAccess(basic)) return;
  const wrong = wrongMsrAnswer(lane);
  if (wrong === null) return;
  ledger.fail(
    'guest-registers',
    lane.rip,
    `${lane.describeExit()}: MSR ${lane.registerAtExit('RCX')} ${wrong}`,
  );
}

/** A halt is the guest's own: an answered HLT begins one, an event ends it, and nothing else does either. */
export function activityIsTheGuests(lane: Lane, ledger: Ledger): void {
  const actual = lane.vmcs.words[2 * VMCS_SLOT.GUEST_ACTIVITY_STATE]!;
  const isHlt = lane.exit.basic === EXIT_REASON.EXIT_REASON_HLT;
  const wanted = isHlt ? ACTIVITY.HLT : lane.exit.low(AT_EXIT.GUEST_ACTIVITY_STATE);
  if (actual === wanted) return;
  const mayWake = actual === ACTIVITY.ACTIVE && wanted === ACTIVITY.HLT;
  if (mayWake && (hasEvent(lane) || (isHlt && haltsInRoot(lane)))) return;
  ledger.fail(
    'rip',
    lane.rip,
    `${lane.describeExit()}: the guest's activity state is ${actual} at VM entry, should be ${wanted}`,
  );
}

const haltsInRoot = (lane: Lane): boolean =>
  lane.memory.words[(lane.config + HLT_POLICY) >>> 2] === CARETAKER_HLT_POLICY.ROOT;

/** Whether VM entry injects an event, or one waits for the guest. */
function hasEvent(lane: Lane): boolean {
  if (entryEvent(lane) >>> 31 === 1) return true;
  const { words } = lane.memory;
  if (words[(lane.softState + SOFT.virtual_nmi_pending) >>> 2] !== 0) return true;
  const irr = (lane.softState + SOFT.irr) >>> 2;
  for (let i = 0; i < IRR_WORDS; i++) if (words[irr + i] !== 0) return true;
  return false;
}

/** The interruptibility and the pending debug exceptions, against those at the exit and what the answer changes. */
export function blockingIsTheGuests(lane: Lane, ledger: Ledger, advances: boolean): void {
  const { words } = lane.vmcs;
  const event = entryEvent(lane);
  const injects = event >>> 31 === 1;
  const before = lane.exit.low(AT_EXIT.GUEST_INTERRUPTIBILITY_INFO);
  const wanted =
    (advances ? before & ~SHADOWS : before) | (endedNmiBlocking(lane) ? NMI_BLOCKING : 0);
  const actual = words[2 * VMCS_SLOT.GUEST_INTERRUPTIBILITY_INFO]!;
  // An event that is injected may end a shadow, an NMI ends its own blocking; neither begins one.
  const isNmi = injects && ((event >>> 8) & 7) === INTR_TYPE.NMI_INTR;
  const mayClear = (injects ? SHADOWS : 0) | (isNmi ? NMI_BLOCKING : 0);
  if ((actual & ~wanted) !== 0 || (wanted & ~actual & ~mayClear) !== 0) {
    ledger.fail(
      'rip',
      lane.rip,
      `${lane.describeExit()}: the guest's interruptibility is ${hex(actual)} at VM entry, should be ${hex(wanted)}`,
    );
  }
  const pendingBefore = lane.exit.low(AT_EXIT.GUEST_PENDING_DBG_EXCEPTIONS);
  const pending = words[2 * VMCS_SLOT.GUEST_PENDING_DBG_EXCEPTIONS]!;
  const steps =
    advances &&
    (lane.exit.low(AT_EXIT.GUEST_RFLAGS) & TF) !== 0 &&
    (words[2 * VMCS_SLOT.GUEST_IA32_DEBUGCTL]! & BTF) === 0;
  const added = pending & ~pendingBefore & ~(steps ? BS : 0);
  const lost = injects ? 0 : pendingBefore & ~pending;
  if (injects && (pending & PENDING_DBG.VALID) !== 0) trapIsNotDisplaced(lane, ledger, event);
  if (added === 0 && lost === 0) return;
  ledger.fail(
    'rip',
    lane.rip,
    `${lane.describeExit()}: pending debug exceptions are ${hex(pending)} at VM entry, were ${hex(pendingBefore)}`,
  );
}

/**
 * An NMI or an interrupt that VM entry injects takes the place of a debug trap that is pending, which comes before either.
 * An event whose delivery the exit broke off was injected before.
 */
function trapIsNotDisplaced(lane: Lane, ledger: Ledger, event: number): void {
  const type = (event >>> 8) & 7;
  if (type !== INTR_TYPE.EXT_INTR && type !== INTR_TYPE.NMI_INTR) return;
  if (lane.exit.wasDeliveringEvent) return;
  ledger.fail(
    'rip',
    lane.rip,
    `${lane.describeExit()}: a debug trap is pending, and vector ${event & 0xff} is injected in its place`,
  );
}

/** The exit interrupted an IRET that had ended NMI blocking; it will be executed again, under blocking. */
function endedNmiBlocking(lane: Lane): boolean {
  const { exit } = lane;
  if (exit.basic !== EXIT_REASON.EXIT_REASON_EXCEPTION_NMI || exit.isNmi) return false;
  const info = exit.low(AT_EXIT.VM_EXIT_INTR_INFO);
  return (info & UNBLOCKED_NMI) !== 0 && (info & 0xff) !== DF && !exit.wasDeliveringEvent;
}
