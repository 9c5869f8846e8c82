/**
 * From an exit as a mutation asks for it to one that a processor could have made.
 *
 * Source: SDM, "Basic VM-Exit Information", "Information for VM Exits Due to Vectored Events", "Information for VM Exits
 * That Occur During Event Delivery", "Information for VM Exits Due to Instruction Execution", "Checks on Guest
 * Non-Register State".
 * Invariant: total, and the guest state it asks for passes the VM-entry checks, so that whatever fails later is the
 * payload's doing. What an exit does not define stays undefined.
 * Not modelled: real-address mode and virtual-8086 mode.
 */
import { EXIT_REASON, EXIT_REASON_WORD } from '../../abi/exit-reasons.js';
import {
  ACTIVITY,
  INTERRUPTIBILITY,
  INTR_INFO,
  INTR_TYPE,
  VECTOR,
} from '../../abi/interruption.js';
import { low32 } from '../../abi/uint.js';
import { guestExit, type GuestExit } from '../guest/guest.js';
import { classOf } from '../spec/reasons.js';
import type { ExitOp } from './input.js';

const LONGEST_INSTRUCTION = 15;
const RFLAGS = { FIXED: 2n, TF: 0x100n, IF: 0x200n } as const;
/** Access rights of a 64-bit and of a 32-bit code segment, both accessed and present. */
const CODE = { LONG: 0xa09bn, PROTECTED: 0xc09bn } as const;
/** Where a guest outside 64-bit mode is when nobody says: 32 bits are all it has. */
const LOW_RIP = 0x10_0000n;
/** Lower vectors are exceptions' and reserved. */
const LOWEST_INTERRUPT = 32;
const ERROR_CODE_VECTORS: ReadonlySet<number> = new Set([
  VECTOR.DF,
  VECTOR.TS,
  VECTOR.NP,
  VECTOR.SS,
  VECTOR.GP,
  VECTOR.PF,
  VECTOR.AC,
  VECTOR.CP,
]);
const {
  EXIT_REASON_EXCEPTION_NMI,
  EXIT_REASON_EXTERNAL_INTERRUPT,
  EXIT_REASON_INVALID_STATE,
  EXIT_REASON_MSR_LOAD_FAIL,
  EXIT_REASON_MCE_DURING_VMENTRY,
} = EXIT_REASON;

/** Reasons that may come while an event is being delivered; a task switch through the IDT is itself the delivery. */
const DURING_DELIVERY: ReadonlySet<number> = new Set([
  EXIT_REASON_EXCEPTION_NMI,
  EXIT_REASON.EXIT_REASON_APIC_ACCESS,
  EXIT_REASON.EXIT_REASON_EPT_VIOLATION,
  EXIT_REASON.EXIT_REASON_EPT_MISCONFIG,
  EXIT_REASON.EXIT_REASON_PML_FULL,
  EXIT_REASON.EXIT_REASON_SPP_EVENT,
]);
/** Reasons that a halted guest may exit with. */
const WHILE_HALTED: ReadonlySet<number> = new Set([
  EXIT_REASON_EXTERNAL_INTERRUPT,
  EXIT_REASON.EXIT_REASON_INIT_SIGNAL,
  EXIT_REASON.EXIT_REASON_NMI_WINDOW,
  EXIT_REASON.EXIT_REASON_INTERRUPT_WINDOW,
  EXIT_REASON.EXIT_REASON_PREEMPTION_TIMER,
]);
const ENTRY_FAILURES = [
  EXIT_REASON_INVALID_STATE,
  EXIT_REASON_MSR_LOAD_FAIL,
  EXIT_REASON_MCE_DURING_VMENTRY,
] as const;
/** What a VM exit may say above the basic reason; the other bits are 0. */
const MODIFIERS =
  EXIT_REASON_WORD.SHADOW_STACK_BUSY |
  EXIT_REASON_WORD.BUS_LOCK |
  EXIT_REASON_WORD.ENCLAVE_MODE |
  EXIT_REASON_WORD.PENDING_MTF;

/** The nearest exit that hardware could make. */
export function legalExit(op: ExitOp): GuestExit {
  const isFailedEntry = (op.modifiers & 0x80) !== 0;
  const basic = isFailedEntry ? ENTRY_FAILURES[op.basic % ENTRY_FAILURES.length]! : op.basic;
  const kind = classOf(basic);
  const isInstruction = kind === 'fast-path' || kind === 'kvm-instruction';
  const interruption = interruptionOf(op, basic);
  const vectoring = vectoringOf(op, basic, interruption?.[0] ?? 0);
  const needsLength = isInstruction || isSoftware(interruption) || isSoftware(vectoring);
  const length = needsLength ? (op.instructionLength % LONGEST_INSTRUCTION) + 1 : undefined;
  const exit = guestExit(basic, op.qualification ?? 0n, length, registersOf(op));
  exit.reasonBits =
    (((op.modifiers << 24) & MODIFIERS) | (isFailedEntry ? EXIT_REASON_WORD.FAILED_VMENTRY : 0)) >>>
    0;
  exit.interruptionInfo = interruption?.[0];
  exit.interruptionErrorCode = interruption?.[1];
  exit.idtVectoringInfo = vectoring?.[0];
  exit.idtVectoringErrorCode = vectoring?.[1];
  exit.guestPhysicalAddress = op.guestPhysicalAddress;
  exit.fields = guestState(op, basic, interruption?.[0] ?? 0, vectoring?.[0] ?? 0);
  return exit;
}

function registersOf({ registers }: ExitOp): GuestExit['registers'] {
  return registers && { RAX: registers[0], RCX: registers[1], RDX: registers[2] };
}

type Event = readonly [info: number, errorCode: number];

function guestState(
  op: ExitOp,
  basic: number,
  interruption: number,
  vectoring: number,
): NonNullable<GuestExit['fields']> {
  const isNmi = basic === EXIT_REASON_EXCEPTION_NMI && typeOf(interruption) === INTR_TYPE.NMI_INTR;
  const isHalted = (op.mode & 1) !== 0 && (WHILE_HALTED.has(basic) || isNmi);
  const needsOpen = basic === EXIT_REASON_EXTERNAL_INTERRUPT || WHILE_HALTED.has(basic) || isNmi;
  const deliversInterrupt = vectoring !== 0 && typeOf(vectoring) === INTR_TYPE.EXT_INTR;
  // The shadows end before an event from outside can exit or be delivered, and STI's needs RFLAGS.IF.
  const isEnabled = (op.mode & 2) !== 0 || deliversInterrupt;
  const hasNoShadow = needsOpen || vectoring !== 0;
  let blocking = 0;
  if (!hasNoShadow && (op.interruptibility & INTERRUPTIBILITY.MOV_SS) !== 0)
    blocking = INTERRUPTIBILITY.MOV_SS;
  else if (!hasNoShadow && isEnabled) blocking = op.interruptibility & INTERRUPTIBILITY.STI;
  // A single step would have come before the instruction after STI, and a halted guest has its own rule.
  const isStepping = (op.mode & 4) !== 0 && blocking === 0 && !isHalted;
  if (!needsOpen) blocking |= op.interruptibility & INTERRUPTIBILITY.NMI;
  const isLong = (op.mode & 8) === 0;
  const own = isLong ? undefined : LOW_RIP;
  const asked = op.rip === undefined ? own : isLong ? canonical(op.rip) : BigInt(low32(op.rip));
  return {
    GUEST_RIP: asked,
    GUEST_RFLAGS: RFLAGS.FIXED | (isEnabled ? RFLAGS.IF : 0n) | (isStepping ? RFLAGS.TF : 0n),
    GUEST_INTERRUPTIBILITY_INFO: BigInt(blocking),
    GUEST_ACTIVITY_STATE: BigInt(isHalted ? ACTIVITY.HLT : ACTIVITY.ACTIVE),
    GUEST_CS_AR_BYTES: isLong ? CODE.LONG : CODE.PROTECTED,
    GUEST_PENDING_DBG_EXCEPTIONS: 0n,
  };
}

function interruptionOf(op: ExitOp, basic: number): Event | undefined {
  const [info, errorCode] = op.interruption ?? [0, 0];
  if (basic === EXIT_REASON_EXTERNAL_INTERRUPT)
    return [(INTR_INFO.VALID | interruptVector(info)) >>> 0, 0];
  if (basic !== EXIT_REASON_EXCEPTION_NMI) return undefined;
  return event(info, errorCode, false);
}

function vectoringOf(op: ExitOp, basic: number, interruption: number): Event | undefined {
  if (op.vectoring === undefined || !DURING_DELIVERY.has(basic)) return undefined;
  // An NMI comes at a boundary; an exception may come while another event is delivered.
  const isException = typeOf(interruption) === INTR_TYPE.HARD_EXCEPTION;
  if (basic === EXIT_REASON_EXCEPTION_NMI && !isException) return undefined;
  return event(op.vectoring[0], op.vectoring[1], true);
}

/** An event whose type, vector and error code belong together; external and software interrupts only `inDelivery`. */
function event(info: number, errorCode: number, inDelivery: boolean): Event {
  const vector = info & INTR_INFO.VECTOR_MASK;
  const type = typeOf(info);
  const word = (kind: number, number: number, bits = 0): number =>
    (INTR_INFO.VALID | bits | (kind << INTR_INFO.TYPE_SHIFT) | number) >>> 0;
  switch (type) {
    case INTR_TYPE.NMI_INTR:
      return [word(type, VECTOR.NMI), 0];
    case INTR_TYPE.EXT_INTR:
      if (inDelivery) return [word(type, interruptVector(info)), 0];
      break;
    case INTR_TYPE.SOFT_INTR:
      if (inDelivery) return [word(type, vector), 0];
      break;
    case INTR_TYPE.PRIV_SW_EXCEPTION:
      return [word(type, VECTOR.DB), 0];
    case INTR_TYPE.SOFT_EXCEPTION:
      return [word(type, (vector & 1) === 0 ? VECTOR.OF : VECTOR.BP), 0];
    default:
  }
  const exception = vector % 32 === VECTOR.NMI ? VECTOR.UD : vector % 22;
  const unblock = info & INTR_INFO.UNBLOCK_NMI;
  const hasCode = ERROR_CODE_VECTORS.has(exception);
  const bits = (hasCode ? INTR_INFO.DELIVER_CODE : 0) | (inDelivery ? 0 : unblock);
  const code = exception === VECTOR.DF ? 0 : errorCode & 0x7fff;
  return [
    word(INTR_TYPE.HARD_EXCEPTION, exception === VECTOR.NMI ? VECTOR.UD : exception, bits),
    hasCode ? code : 0,
  ];
}

/** The address with bit 47 in all bits above it (SDM, "Canonical Addressing"). */
const canonical = (address: bigint): bigint => {
  const low = address & 0xffff_ffff_ffffn;
  return (low & 0x8000_0000_0000n) === 0n ? low : low | 0xffff_0000_0000_0000n;
};
const typeOf = (info: number): number => (info & INTR_INFO.TYPE_MASK) >>> INTR_INFO.TYPE_SHIFT;
const interruptVector = (info: number): number =>
  Math.max(LOWEST_INTERRUPT, info & INTR_INFO.VECTOR_MASK);

function isSoftware(one: Event | undefined): boolean {
  const type = one === undefined ? -1 : typeOf(one[0]);
  return (
    type === INTR_TYPE.SOFT_INTR ||
    type === INTR_TYPE.PRIV_SW_EXCEPTION ||
    type === INTR_TYPE.SOFT_EXCEPTION
  );
}
