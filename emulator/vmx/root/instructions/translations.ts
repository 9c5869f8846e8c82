/**
 * Invalidation of cached translations: INVLPG and INVPCID.
 *
 * Source: SDM, "INVLPG", "INVPCID", "Operations that Invalidate TLBs and Paging-Structure Caches".
 * Invariant: what is invalidated is a superset of what the instruction names, which the architecture allows.
 * Not modelled: PCIDs as tags; every INVPCID but an individual address forgets everything.
 */
import { isCanonical } from '../../../../abi/uint.js';
import type { Instruction } from '../../../cpu/decode.js';
import { REG } from '../../../cpu/registers.js';
import { GENERAL_PROTECTION, NEXT, type Outcome } from '../outcome.js';
import type { ModelTable, RootCpu } from '../root-cpu.js';
import { linearAddress, openOperand, operandOf } from './operands.js';

const INDIVIDUAL_ADDRESS = 0n;
const SINGLE_CONTEXT = 1n;
const LAST_TYPE = 3n;
const CR4_PCIDE = 1n << 17n;

export const TRANSLATION_MODELS: ModelTable = {
  INVLPG: (cpu, instruction) => {
    const address = linearAddress(cpu, instruction, operandOf(instruction, 'memory'));
    if (isCanonical(address)) cpu.ports.addressSpace.invalidate(address);
    return NEXT;
  },
  INVPCID: invalidatePcid,
};

function invalidatePcid(cpu: RootCpu, instruction: Instruction): Outcome {
  const { values } = cpu.registers;
  const type = values[operandOf(instruction, 'register').register]!;
  const address = openOperand(cpu, instruction, operandOf(instruction, 'memory'), 16, 'read');
  if (typeof address !== 'bigint') return address;
  const pcid = cpu.memory.readU64(address);
  const linear = cpu.memory.readU64(address + 8n);
  if (type > LAST_TYPE || pcid >> 12n !== 0n) return GENERAL_PROTECTION;
  const namesPcid = type === INDIVIDUAL_ADDRESS || type === SINGLE_CONTEXT;
  if (namesPcid && (values[REG.CR4]! & CR4_PCIDE) === 0n && pcid !== 0n) return GENERAL_PROTECTION;
  if (type === INDIVIDUAL_ADDRESS && !isCanonical(linear)) return GENERAL_PROTECTION;
  cpu.ports.addressSpace.invalidate(type === INDIVIDUAL_ADDRESS ? linear : null);
  return NEXT;
}
