/**
 * MOV to and from control registers, CLTS, SMSW and LMSW, with the faults of reserved and fixed bits.
 *
 * Source: SDM, "MOV—Move to/from Control Registers", "Control Registers", "Restrictions on VMX Operation".
 * Invariant: in VMX operation CR0 and CR4 keep the bits that the VMX capability MSRs fix.
 * Not modelled: leaving 64-bit mode, and a CR3 whose tables do not map identically: both stop or fault.
 */
import { low32, u64 } from '../../../../abi/uint.js';
import type { Instruction } from '../../../cpu/decode.js';
import { REG } from '../../../cpu/registers.js';
import {
  GENERAL_PROTECTION,
  NEXT,
  UNDEFINED_OPCODE,
  unmodelled,
  type Outcome,
} from '../outcome.js';
import type { ModelTable, RootCpu } from '../root-cpu.js';
import { operandAt, operandOf, readOperand, writeOperand } from './operands.js';

const CR0 = { PE: 1n, TS: 8n, WP: 1n << 16n, NW: 1n << 29n, CD: 1n << 30n, PG: 1n << 31n };
const CR0_DEFINED = 0xe005_003fn;
const CR4 = { PAE: 1n << 5n, PGE: 1n << 7n, LA57: 1n << 12n, VMXE: 1n << 13n };
const CR4_PCIDE = 1n << 17n;
const CR4_CET = 1n << 23n;
const CR3_NO_FLUSH = 1n << 63n;
const CR3_PCID = 0xfffn;

export const CONTROL_REGISTER_MODELS: ModelTable = {
  MOV_TO_CR: (cpu, instruction) => {
    const { register } = operandOf(instruction, 'control');
    const value = cpu.registers.values[operandOf(instruction, 'register').register]!;
    switch (register) {
      case 0:
        return writeCr0(cpu, value);
      case 2:
        cpu.registers.values[REG.CR2] = value;
        return NEXT;
      case 3:
        return writeCr3(cpu, value);
      case 4:
        return writeCr4(cpu, value);
      case 8:
        return writeCr8(cpu, value);
      default:
        return UNDEFINED_OPCODE;
    }
  },
  MOV_FROM_CR: (cpu, instruction) => {
    const slot = CONTROL_SLOT[operandOf(instruction, 'control').register];
    if (slot === undefined) return UNDEFINED_OPCODE;
    const { values } = cpu.registers;
    const value = slot === REG.CR8 ? u64(cpu.apic.tpr >>> 4) : values[slot]!;
    values[operandOf(instruction, 'register').register] = value;
    return NEXT;
  },
  CLTS: ({ registers }) => {
    registers.values[REG.CR0] = registers.values[REG.CR0]! & ~CR0.TS;
    return NEXT;
  },
  SMSW: (cpu, instruction) => {
    const destination = operandAt(instruction, 0);
    return writeOperand(cpu, instruction, destination, 2, cpu.registers.values[REG.CR0]!) ?? NEXT;
  },
  /** Loads PE, MP, EM and TS; PE can be set but not cleared. */
  LMSW: (cpu, instruction: Instruction) => {
    const word = readOperand(cpu, instruction, operandAt(instruction, 0), 2);
    if (typeof word !== 'bigint') return word;
    const before = cpu.registers.values[REG.CR0]!;
    return writeCr0(cpu, (before & ~0xen) | (word & 0xfn));
  },
};

const CONTROL_SLOT: Readonly<Record<number, number>> = {
  0: REG.CR0,
  2: REG.CR2,
  3: REG.CR3,
  4: REG.CR4,
  8: REG.CR8,
};

function writeCr0(cpu: RootCpu, value: bigint): Outcome {
  const { values } = cpu.registers;
  const before = values[REG.CR0]!;
  const next = (value & CR0_DEFINED) | (before & 0x10n);
  const isPagingWithoutProtection = (next & CR0.PG) !== 0n && (next & CR0.PE) === 0n;
  const isNotWriteThroughAlone = (next & CR0.NW) !== 0n && (next & CR0.CD) === 0n;
  const losesWriteProtect = (next & CR0.WP) === 0n && (values[REG.CR4]! & CR4_CET) !== 0n;
  const hasHighBits = value >> 32n !== 0n;
  if (hasHighBits || isPagingWithoutProtection || isNotWriteThroughAlone || losesWriteProtect) {
    return GENERAL_PROTECTION;
  }
  if (!keepsFixedBits(cpu, next, cpu.capabilities.cr0Fixed0, cpu.capabilities.cr0Fixed1)) {
    return GENERAL_PROTECTION;
  }
  if ((next & CR0.PG) === 0n) {
    return unmodelled('MOV_TO_CR', values[REG.RIP]!, 'CR0.PG cleared: 64-bit mode is left');
  }
  values[REG.CR0] = next;
  if (((before ^ next) & CR0.WP) === 0n) return NEXT;
  cpu.ports.addressSpace.invalidate(null);
  const refusal = cpu.ports.addressSpace.activate(values[REG.CR3]!);
  return refusal === null ? NEXT : unmodelled('MOV_TO_CR', values[REG.RIP]!, `CR0: ${refusal}`);
}

function writeCr3(cpu: RootCpu, value: bigint): Outcome {
  const { values } = cpu.registers;
  const hasPcid = (values[REG.CR4]! & CR4_PCIDE) !== 0n;
  const next = hasPcid ? value & ~CR3_NO_FLUSH : value;
  if (next >> u64(cpu.capabilities.physicalAddressBits) !== 0n) return GENERAL_PROTECTION;
  const refusal = cpu.ports.addressSpace.activate(next);
  if (refusal !== null) return unmodelled('MOV_TO_CR', values[REG.RIP]!, `CR3: ${refusal}`);
  values[REG.CR3] = next;
  return NEXT;
}

function writeCr4(cpu: RootCpu, value: bigint): Outcome {
  const { values } = cpu.registers;
  const before = values[REG.CR4]!;
  const changed = before ^ value;
  const setsPcide = (changed & value & CR4_PCIDE) !== 0n;
  const isAllowed =
    (value & ~cpu.capabilities.cr4Fixed1) === 0n &&
    (value & CR4.PAE) !== 0n &&
    (changed & CR4.LA57) === 0n &&
    !(setsPcide && (values[REG.CR3]! & CR3_PCID) !== 0n) &&
    !((value & CR4_CET) !== 0n && (values[REG.CR0]! & CR0.WP) === 0n) &&
    keepsFixedBits(cpu, value, cpu.capabilities.cr4Fixed0, cpu.capabilities.cr4Fixed1);
  if (!isAllowed) return GENERAL_PROTECTION;
  values[REG.CR4] = value;
  if ((changed & (CR4.PGE | CR4_PCIDE)) !== 0n) cpu.ports.addressSpace.invalidate(null);
  return NEXT;
}

function writeCr8(cpu: RootCpu, value: bigint): Outcome {
  if (value > 15n) return GENERAL_PROTECTION;
  cpu.registers.values[REG.CR8] = value;
  cpu.apic.tpr = low32(value) << 4;
  return NEXT;
}

/** Bits that are 1 in FIXED0 must be 1, bits that are 0 in FIXED1 must be 0; outside VMX operation nothing is fixed. */
function keepsFixedBits(cpu: RootCpu, value: bigint, fixed0: bigint, fixed1: bigint): boolean {
  return cpu.vmx.mode === 'off' || ((fixed0 & ~value) === 0n && (value & ~fixed1) === 0n);
}
