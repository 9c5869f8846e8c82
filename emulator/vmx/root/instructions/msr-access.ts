/**
 * RDMSR, WRMSR, WRMSRNS and the extended control register.
 *
 * Source: SDM, "RDMSR", "WRMSR", "WRMSRNS", "XGETBV", "XSETBV", "XCR0".
 * Invariant: an access that hardware refuses is #GP(0); one that hardware allows and the model cannot do stops the run.
 * Not modelled: XGETBV of XINUSE, user-managed extended control registers beyond XCR0.
 */
import { high32, joinHalves, low32 } from '../../../../abi/uint.js';
import { REG, type RegisterFile } from '../../../cpu/registers.js';
import {
  GENERAL_PROTECTION,
  NEXT,
  UNDEFINED_OPCODE,
  unmodelled,
  type Outcome,
} from '../outcome.js';
import type { ModelTable, RootCpu } from '../root-cpu.js';
import { hex } from '../../../../abi/uint.js';
import { read32, write32 } from './operands.js';

/** CR4.OSXSAVE. */
export const CR4_OSXSAVE = 1n << 18n;

export const MSR_MODELS: ModelTable = {
  RDMSR: ({ msrs, registers }) => {
    const value = msrs.read(read32(registers, REG.RCX));
    if (value === undefined) return GENERAL_PROTECTION;
    writePair(registers, value);
    return NEXT;
  },
  WRMSR: writeMsr,
  WRMSRNS: writeMsr,
  XGETBV: ({ registers }) => {
    const values = registers.values;
    if ((values[REG.CR4]! & CR4_OSXSAVE) === 0n) return UNDEFINED_OPCODE;
    const index = read32(registers, REG.RCX);
    if (index === 1) return unmodelled('XGETBV', values[REG.RIP]!, 'XINUSE');
    if (index !== 0) return GENERAL_PROTECTION;
    writePair(registers, values[REG.XCR0]!);
    return NEXT;
  },
  XSETBV: ({ registers, features }) => {
    const values = registers.values;
    if ((values[REG.CR4]! & CR4_OSXSAVE) === 0n) return UNDEFINED_OPCODE;
    const value = readPair(registers);
    if (read32(registers, REG.RCX) !== 0 || !isXcr0Valid(value, features.xcr0)) {
      return GENERAL_PROTECTION;
    }
    values[REG.XCR0] = value;
    return NEXT;
  },
};

function writeMsr({ msrs, registers }: RootCpu): Outcome {
  const index = read32(registers, REG.RCX);
  const value = readPair(registers);
  if (msrs.isUnmodelledWrite(index, value)) {
    return unmodelled('WRMSR', registers.values[REG.RIP]!, `MSR ${hex(index)} := ${hex(value)}`);
  }
  return msrs.write(index, value) ? NEXT : GENERAL_PROTECTION;
}

/** x87 always; AVX needs SSE; the AVX-512 components come together and need AVX; the tile components come together. */
function isXcr0Valid(value: bigint, supported: bigint): boolean {
  const has = (mask: bigint): boolean => (value & mask) === mask;
  const hasAny = (mask: bigint): boolean => (value & mask) !== 0n;
  if ((value & ~supported) !== 0n || !has(0x1n)) return false;
  if (hasAny(0x4n) && !has(0x2n)) return false;
  if (hasAny(0x18n) && !has(0x18n)) return false;
  if (hasAny(0xe0n) && !has(0xe6n)) return false;
  return !hasAny(0x6_0000n) || has(0x6_0000n);
}

function readPair(registers: RegisterFile): bigint {
  return joinHalves(read32(registers, REG.RDX), read32(registers, REG.RAX));
}

function writePair(registers: RegisterFile, value: bigint): void {
  write32(registers, REG.RAX, low32(value));
  write32(registers, REG.RDX, high32(value));
}
