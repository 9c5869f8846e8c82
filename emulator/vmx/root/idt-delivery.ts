/**
 * Delivers an event through the 64-bit IDT: gate, code segment, stack, frame, and what goes wrong on the way.
 *
 * Source: SDM, "Exception and Interrupt Handling in 64-bit Mode", "64-Bit Mode IDT", "Interrupt Stack Table",
 * "Interrupt 8—Double Fault Exception (#DF)"; INT n pseudocode.
 * Invariant: until every check has passed nothing is written but an accessed bit, NMI blocking, CR2 and, where the shadow
 * stack refuses the event, the frame below RSP; the frame is 5 or 6 quadwords on a stack aligned to 16 bytes.
 * Not modelled: delivery to another privilege level (root operation is CPL 0 throughout), task gates.
 */
import { VECTOR } from '../../../abi/interruption.js';
import { isCanonical, low32, u64 } from '../../../abi/uint.js';
import { REG, RFLAGS, type RegisterFile } from '../../cpu/registers.js';
import {
  isCode,
  isConforming,
  isNullSelector,
  lookUp,
  markAccessed,
  type SegmentDescriptor,
} from './descriptors.js';
import { trackFarTransfer } from './control-flow.js';
import { combine, exceptionClass } from './double-fault.js';
import { fault, selectorError, type Failure, type Fault, type Stop } from './outcome.js';
import type { RootCpu } from './root-cpu.js';
import { pushInterrupted, shadowStackOfGate } from './shadow-stack.js';

/** What is delivered; `errorCode` is null for an event that pushes none. */
export interface DeliveryEvent {
  readonly vector: number;
  readonly kind: 'exception' | 'nmi' | 'external' | 'soft-int';
  readonly errorCode: number | null;
  /** Where the program goes on when delivery fails: at the instruction that causes a software interrupt. */
  readonly restart?: bigint;
}

/** What became of it. */
export type DeliveryResult =
  | {
      readonly kind: 'delivered';
      /** The vector whose handler runs: the event's own, or that of the exception that replaced it. */
      readonly vector: number;
      /** RSP at the handler's first instruction. */
      readonly frame: bigint;
      /** 0 when the handler runs on the interrupted stack. */
      readonly ist: number;
      /** Vectors whose own delivery failed. */
      readonly replaced: readonly number[];
    }
  | { readonly kind: 'triple-fault'; readonly vectors: readonly number[] }
  | Stop;

/** The part of a pCPU that delivery reads and writes. */
export type DeliveryCpu = Pick<RootCpu, 'registers' | 'blocking' | 'linear' | 'msrs'>;

interface Gate {
  readonly kind: 'gate';
  readonly offset: bigint;
  readonly selector: number;
  readonly ist: number;
  readonly type: number;
}

interface Delivered {
  readonly kind: 'delivered';
  readonly frame: bigint;
  readonly ist: number;
}

const GATE_BYTES = 16;
const INTERRUPT_GATE = 14;
const TRAP_GATE = 15;
const ERROR_IDT = 2;
const TSS_IST1 = 0x24n;
const NESTED_TASK = 0x4000n;
/** Cleared in RFLAGS when any handler begins. */
const CLEARED_BY_DELIVERY = RFLAGS.TF | NESTED_TASK | RFLAGS.RF | RFLAGS.VM;

/** Delivers an event, or what its failing delivery turns into. CR2 of a #PF that is `event` itself is the caller's. */
export function deliver(cpu: DeliveryCpu, event: DeliveryEvent): DeliveryResult {
  const replaced: number[] = [];
  if (event.kind === 'nmi') cpu.blocking.nmi = true;
  for (let current = event; ;) {
    const result = deliverOne(cpu, current);
    if (result.kind === 'stop') return result;
    if (result.kind === 'delivered') {
      cpu.blocking.sti = false;
      cpu.blocking.movSs = false;
      return { ...result, vector: current.vector, replaced };
    }
    replaced.push(current.vector);
    if (current.restart !== undefined) cpu.registers.values[REG.RIP] = current.restart;
    if (result.address !== null) cpu.registers.values[REG.CR2] = result.address;
    const first = current.kind === 'exception' ? exceptionClass(current.vector) : 'benign';
    switch (combine(first, exceptionClass(result.vector))) {
      case 'second':
        current = { vector: result.vector, kind: 'exception', errorCode: result.errorCode };
        break;
      case 'double-fault':
        current = { vector: VECTOR.DF, kind: 'exception', errorCode: 0 };
        break;
      case 'shutdown':
        return { kind: 'triple-fault', vectors: [...replaced, result.vector] };
    }
  }
}

function deliverOne(cpu: DeliveryCpu, event: DeliveryEvent): Delivered | Failure {
  const { registers, linear } = cpu;
  /** EXT: the event comes from outside the program, or from an exception before this one. */
  const isExternal = event.kind !== 'soft-int';
  const gate = readGate(cpu, event.vector, isExternal);
  if (gate.kind !== 'gate') return gate;
  const code = readCodeSegment(cpu, gate.selector, isExternal);
  if (code.kind !== 'descriptor') return code;
  const stack = handlerStack(cpu, gate.ist, isExternal);
  if (typeof stack !== 'bigint') return stack;
  const shadowStack = shadowStackOfGate(cpu, gate.ist);
  if (typeof shadowStack !== 'bigint') return withExt(shadowStack, isExternal) ?? shadowStack;
  if (!isCanonical(gate.offset)) return fault(VECTOR.GP, extBit(isExternal));

  const frame = frameOf(registers, event);
  const rsp = u64((stack & ~0xfn) - u64(frame.length * 8));
  const failure =
    withExt(openFrame(linear, rsp, frame.length), isExternal) ?? markAccessed(linear, code);
  if (failure !== null) return failure;
  frame.forEach((value, index) => linear.bytes.writeU64(rsp + u64(index * 8), value));

  const values = registers.values;
  const refused = pushInterrupted(cpu, shadowStack, gate.ist, values[REG.CS]!, values[REG.RIP]!);
  if (refused !== null) return withExt(refused, isExternal) ?? refused;
  trackFarTransfer(cpu);
  const cleared = CLEARED_BY_DELIVERY | (gate.type === INTERRUPT_GATE ? RFLAGS.IF : 0n);
  values[REG.RSP] = rsp;
  values[REG.RIP] = gate.offset;
  values[REG.RFLAGS] = values[REG.RFLAGS]! & ~cleared;
  values[REG.CS] = u64(gate.selector & 0xfffc);
  return { kind: 'delivered', frame: rsp, ist: gate.ist };
}

/** Asks for the stack of a frame; what it is refused with is that of the first push, which is the highest quadword's. */
function openFrame(linear: DeliveryCpu['linear'], rsp: bigint, quadwords: number): Failure | null {
  for (let index = quadwords - 1; index >= 0; index--) {
    const failure = linear.explain(u64(rsp + u64(index * 8)), 8, 'write', true);
    if (failure !== null) return failure;
  }
  return linear.openImplicit('stack', rsp, quadwords * 8, 'write');
}

/** Lowest address first, as the frame lies in memory. */
function frameOf({ values }: RegisterFile, event: DeliveryEvent): readonly bigint[] {
  const isFault = event.kind === 'exception' && !TRAPS_AND_ABORTS.has(event.vector);
  const rflags = values[REG.RFLAGS]! | (isFault ? RFLAGS.RF : 0n);
  const frame = [values[REG.RIP]!, values[REG.CS]!, rflags, values[REG.RSP]!, values[REG.SS]!];
  return event.errorCode === null ? frame : [u64(event.errorCode), ...frame];
}

/** Exceptions whose frame has RF as it was; #DB counts as the trap that a data or single-step breakpoint is. */
const TRAPS_AND_ABORTS: ReadonlySet<number> = new Set([
  VECTOR.DB,
  VECTOR.BP,
  VECTOR.OF,
  VECTOR.DF,
  VECTOR.MC,
]);

function readGate(
  { registers, linear }: DeliveryCpu,
  vector: number,
  isExternal: boolean,
): Gate | Failure {
  const error = vector * 8 + ERROR_IDT + extBit(isExternal);
  const offset = vector * GATE_BYTES;
  if (u64(offset + GATE_BYTES - 1) > registers.values[REG.IDTR_LIMIT]!) {
    return fault(VECTOR.GP, error);
  }
  const address = u64(registers.values[REG.IDTR_BASE]! + u64(offset));
  const failure = linear.openImplicit('idt', address, GATE_BYTES, 'read');
  if (failure !== null) return withExt(failure, isExternal) ?? failure;
  const low = linear.bytes.readU32(address);
  const middle = linear.bytes.readU32(address + 4n);
  const high = linear.bytes.readU32(address + 8n);
  const type = (middle >>> 8) & 0x1f;
  if (type !== INTERRUPT_GATE && type !== TRAP_GATE) return fault(VECTOR.GP, error);
  if ((middle & 0x8000) === 0) return fault(VECTOR.NP, error);
  return {
    kind: 'gate',
    offset: (u64(high) << 32n) | u64(((middle & 0xffff_0000) | (low & 0xffff)) >>> 0),
    selector: low >>> 16,
    ist: middle & 7,
    type,
  };
}

function readCodeSegment(
  { registers, linear }: DeliveryCpu,
  selector: number,
  isExternal: boolean,
): SegmentDescriptor | Failure {
  if (isNullSelector(selector)) return fault(VECTOR.GP, extBit(isExternal));
  const error = selectorError(selector, isExternal);
  const found = lookUp(linear, registers, selector);
  if (found.kind === 'none') return fault(VECTOR.GP, error);
  if (found.kind !== 'descriptor') return found;
  const isPrivileged = found.dpl === 0 || isConforming(found);
  const isUsable = isCode(found) && isPrivileged && found.isLong && !found.isDefault32;
  if (!isUsable) return fault(VECTOR.GP, error);
  return found.isPresent ? found : fault(VECTOR.NP, error);
}

/** The stack to push on: the interrupted one, or the IST entry that the gate names. */
function handlerStack(
  { registers, linear }: DeliveryCpu,
  ist: number,
  isExternal: boolean,
): bigint | Failure {
  const values = registers.values;
  if (ist === 0) return values[REG.RSP]!;
  const offset = TSS_IST1 + u64((ist - 1) * 8);
  if (offset + 7n > values[REG.TR_LIMIT]!) {
    return fault(VECTOR.TS, selectorError(low32(values[REG.TR]!), isExternal));
  }
  const address = u64(values[REG.TR_BASE]! + offset);
  return linear.openImplicit('tss', address, 8, 'read') ?? linear.bytes.readU64(address);
}

function extBit(isExternal: boolean): number {
  return isExternal ? 1 : 0;
}

/** #GP(0) and #SS(0) of an implicit access carry EXT; #PF has its own error code. */
function withExt(failure: Failure | null, isExternal: boolean): Failure | null {
  if (failure?.kind !== 'fault' || failure.vector === VECTOR.PF) return failure;
  const ext: Fault = { ...failure, errorCode: extBit(isExternal) };
  return ext;
}
