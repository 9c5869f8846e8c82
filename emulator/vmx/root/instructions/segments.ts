/**
 * Segment registers: MOV, PUSH, POP and far loads of a selector, VERR, VERW, LAR and LSL, and the FS and GS bases.
 *
 * Source: SDM, "MOV—Move", "PUSH", "POP", "LDS/LES/LFS/LGS/LSS", "VERR/VERW", "LAR", "LSL", "SWAPGS", "RDFSBASE/RDGSBASE", "WRFSBASE/WRGSBASE".
 * Invariant: a selector that is refused leaves its register and base as they were; MOV SS begins a shadow.
 * Not modelled: attributes of DS, ES, FS and GS, which 64-bit mode does not use; 16-bit forms of far loads, LAR and LSL.
 */
import { VECTOR } from '../../../../abi/interruption.js';
import { MSR } from '../../../../abi/msrs.js';
import { isCanonical, low32, u64 } from '../../../../abi/uint.js';
import type { Instruction } from '../../../cpu/decode.js';
import { REG, RFLAGS } from '../../../cpu/registers.js';
import {
  NOTHING,
  isCode,
  isConforming,
  isNullSelector,
  isReadable,
  isWritableData,
  lookUp,
  markAccessed,
  rplOf,
  type SegmentDescriptor,
} from '../descriptors.js';
import {
  GENERAL_PROTECTION,
  NEXT,
  UNDEFINED_OPCODE,
  fault,
  selectorError,
  type Failure,
  type Outcome,
} from '../outcome.js';
import type { ModelTable, RootCpu } from '../root-cpu.js';
import {
  readFarPointer,
  openStack,
  operandAt,
  operandOf,
  push64,
  readOperand,
  readRegister,
  writeOperand,
  writeRegister,
} from './operands.js';

/** By the number that ModRM uses: ES, CS, SS, DS, FS, GS. */
const SELECTOR_SLOT: readonly number[] = [REG.ES, REG.CS, REG.SS, REG.DS, REG.FS, REG.GS];
const [CS_NUMBER, SS_NUMBER, FS_NUMBER, GS_NUMBER] = [1, 2, 4, 5];
const CR4_FSGSBASE = 1n << 16n;

export const SEGMENT_MODELS: ModelTable = {
  MOV_TO_SEG: (cpu, instruction) => {
    const { register } = operandOf(instruction, 'segment');
    if (register === CS_NUMBER || register >= SELECTOR_SLOT.length) return UNDEFINED_OPCODE;
    const source = instruction.operands.find(({ kind }) => kind !== 'segment')!;
    const selector = readOperand(cpu, instruction, source, 2);
    if (typeof selector !== 'bigint') return selector;
    const failure = loadSegment(cpu, register, low32(selector));
    if (failure !== null) return failure;
    if (register === SS_NUMBER) cpu.blocking.movSs = true;
    return NEXT;
  },
  MOV_FROM_SEG: (cpu, instruction) => {
    const slot = SELECTOR_SLOT[operandOf(instruction, 'segment').register];
    if (slot === undefined) return UNDEFINED_OPCODE;
    const destination = instruction.operands.find(({ kind }) => kind !== 'segment')!;
    return writeOperand(cpu, instruction, destination, 2, cpu.registers.values[slot]!) ?? NEXT;
  },
  PUSH_SEG: pushSegment,
  POP_SEG: popSegment,
  LSS: (cpu, instruction) => loadFar(cpu, instruction, SS_NUMBER),
  LFS: (cpu, instruction) => loadFar(cpu, instruction, FS_NUMBER),
  LGS: (cpu, instruction) => loadFar(cpu, instruction, GS_NUMBER),
  LAR: (cpu, instruction) =>
    describe(cpu, instruction, RIGHTS_TYPES, (one) => u64(one.accessRights)),
  LSL: (cpu, instruction) => describe(cpu, instruction, LIMIT_TYPES, (one) => one.limit),
  VERR: (cpu, instruction) => verify(cpu, instruction, 'read'),
  VERW: (cpu, instruction) => verify(cpu, instruction, 'write'),
  SWAPGS: ({ registers, msrs }) => {
    const kernelBase = msrs.file.read(MSR.IA32_KERNEL_GS_BASE) ?? 0n;
    msrs.file.load(MSR.IA32_KERNEL_GS_BASE, registers.values[REG.GS_BASE]!);
    registers.values[REG.GS_BASE] = kernelBase;
    return NEXT;
  },
  RDFSBASE: (cpu, instruction) => readBase(cpu, instruction, REG.FS_BASE),
  RDGSBASE: (cpu, instruction) => readBase(cpu, instruction, REG.GS_BASE),
  WRFSBASE: (cpu, instruction) => writeBase(cpu, instruction, REG.FS_BASE),
  WRGSBASE: (cpu, instruction) => writeBase(cpu, instruction, REG.GS_BASE),
};

/** Checks a selector as a load of DS, ES, FS, GS or SS does, and loads it. */
function loadSegment(cpu: RootCpu, register: number, selector: number): Failure | null {
  const { values } = cpu.registers;
  const isStack = register === SS_NUMBER;
  let base = 0n;
  if (isNullSelector(selector)) {
    if (isStack && rplOf(selector) !== 0) return GENERAL_PROTECTION;
  } else {
    const found = lookUp(cpu.linear, cpu.registers, selector);
    if (found.kind === 'none') return fault(VECTOR.GP, selectorError(selector));
    if (found.kind !== 'descriptor') return found;
    const isAllowed = isStack
      ? rplOf(selector) === 0 && isWritableData(found) && found.dpl === 0
      : isReadable(found) && (isConforming(found) || found.dpl >= rplOf(selector));
    if (!isAllowed) return fault(VECTOR.GP, selectorError(selector));
    if (!found.isPresent) return fault(isStack ? VECTOR.SS : VECTOR.NP, selectorError(selector));
    const failure = markAccessed(cpu.linear, found);
    if (failure !== null) return failure;
    base = found.base;
  }
  values[SELECTOR_SLOT[register]!] = u64(selector);
  if (register === FS_NUMBER) values[REG.FS_BASE] = base;
  if (register === GS_NUMBER) values[REG.GS_BASE] = base;
  return null;
}

function pushSegment(cpu: RootCpu, instruction: Instruction): Outcome {
  const slot = SELECTOR_SLOT[operandOf(instruction, 'segment').register];
  if (slot === undefined) return UNDEFINED_OPCODE;
  return push64(cpu, cpu.registers.values[slot]!) ?? NEXT;
}

function popSegment(cpu: RootCpu, instruction: Instruction): Outcome {
  const stack = openStack(cpu, 8);
  if (typeof stack !== 'bigint') return stack;
  const { register } = operandOf(instruction, 'segment');
  const failure = loadSegment(cpu, register, cpu.memory.readU16(stack));
  if (failure !== null) return failure;
  cpu.registers.values[REG.RSP] = u64(stack + 8n);
  return NEXT;
}

/** A far pointer: the offset into a general register, the selector behind it into a segment register. */
function loadFar(cpu: RootCpu, instruction: Instruction, register: number): Outcome {
  const target = operandOf(instruction, 'register');
  const { sizeBytes } = target;
  const pointer = readFarPointer(cpu, instruction, sizeBytes);
  if ('kind' in pointer) return pointer;
  const { offset, selector } = pointer;
  const failure = loadSegment(cpu, register, selector);
  if (failure !== null) return failure;
  writeRegister(cpu.registers, target.register, sizeBytes, offset);
  return NEXT;
}

/** System descriptors of IA-32e mode that LSL and LAR know: LDT, available and busy TSS; and the call gate. */
const LIMIT_TYPES: readonly number[] = [0x2, 0x9, 0xb];
const RIGHTS_TYPES: readonly number[] = [...LIMIT_TYPES, 0xc];

/** LAR and LSL: ZF says whether CPL 0 may see the descriptor, and then a part of it is delivered. */
function describe(
  cpu: RootCpu,
  instruction: Instruction,
  systemTypes: readonly number[],
  part: (descriptor: SegmentDescriptor) => bigint,
): Outcome {
  const target = operandAt(instruction, 0);
  const operand = readOperand(cpu, instruction, operandAt(instruction, 1), 2);
  if (typeof operand !== 'bigint') return operand;
  const selector = low32(operand);
  const found = isNullSelector(selector) ? NOTHING : lookUp(cpu.linear, cpu.registers, selector);
  if (found.kind === 'fault' || found.kind === 'stop') return found;
  const isSeen =
    found.kind === 'descriptor' &&
    (!found.isSystem || systemTypes.includes(found.type)) &&
    ((!found.isSystem && isCode(found) && isConforming(found)) || found.dpl >= rplOf(selector));
  setZero(cpu, isSeen);
  return isSeen ? (writeOperand(cpu, instruction, target, 4, part(found)) ?? NEXT) : NEXT;
}

/** ZF says whether the segment can be accessed at CPL 0; nothing faults but the operand's own access. */
function verify(cpu: RootCpu, instruction: Instruction, access: 'read' | 'write'): Outcome {
  const operand = readOperand(cpu, instruction, operandAt(instruction, 0), 2);
  if (typeof operand !== 'bigint') return operand;
  const selector = low32(operand);
  let isAccessible = false;
  if (!isNullSelector(selector)) {
    const found = lookUp(cpu.linear, cpu.registers, selector);
    if (found.kind === 'fault' || found.kind === 'stop') return found;
    if (found.kind === 'descriptor') {
      const isKind = access === 'write' ? isWritableData(found) : isReadable(found);
      isAccessible = isKind && (isConforming(found) || found.dpl >= rplOf(selector));
    }
  }
  setZero(cpu, isAccessible);
  return NEXT;
}

function setZero({ registers: { values } }: RootCpu, isSet: boolean): void {
  const rflags = values[REG.RFLAGS]!;
  values[REG.RFLAGS] = isSet ? rflags | RFLAGS.ZF : rflags & ~RFLAGS.ZF;
}

function readBase({ registers }: RootCpu, instruction: Instruction, slot: number): Outcome {
  if ((registers.values[REG.CR4]! & CR4_FSGSBASE) === 0n) return UNDEFINED_OPCODE;
  const { register, sizeBytes } = operandOf(instruction, 'register');
  writeRegister(registers, register, sizeBytes, registers.values[slot]!);
  return NEXT;
}

function writeBase({ registers }: RootCpu, instruction: Instruction, slot: number): Outcome {
  if ((registers.values[REG.CR4]! & CR4_FSGSBASE) === 0n) return UNDEFINED_OPCODE;
  const { register, sizeBytes } = operandOf(instruction, 'register');
  const value = readRegister(registers, register, sizeBytes);
  if (!isCanonical(value)) return GENERAL_PROTECTION;
  registers.values[slot] = value;
  return NEXT;
}
