/**
 * Instructions that wait until all earlier stores of their core are visible.
 *
 * Source: SDM, "Locked Atomic Operations", "Serializing Instructions", "Strengthening or Weakening the Memory-Ordering Model";
 * "WRMSR" (a write of an x2APIC register or of the TSC deadline is not serializing).
 * Invariant: what is not here leaves a store buffer alone, so a missing row shows more than hardware does, never less.
 * Not modelled: that VM entry and VM exit drain the buffer, which the SDM does not promise.
 */
import { X2APIC_FIRST, X2APIC_LAST } from '../../../abi/x2apic.js';
import { MSR } from '../../../abi/msrs.js';
import type { InstructionForm } from '../../cpu/instruction-format.js';
import { writesMemory } from '../../cpu/sweep.js';

/** Whether an instruction reads and writes memory in one, which no other core can come between. */
export const isLocked = (form: InstructionForm): boolean =>
  form.memory !== null && (form.hasLock || (form.map === 'one' && (form.opcode & 0xfe) === 0x86));

/** Whether an instruction reads what it then writes. */
export function readsAndWrites(form: InstructionForm): boolean {
  if (form.memory === null || !writesMemory(form)) return false;
  const { map, opcode } = form;
  if (map === '0f') return !(opcode === 0xc3 || (opcode >= 0x90 && opcode <= 0x9f));
  // MOV to memory stores and nothing more.
  return !(opcode === 0x88 || opcode === 0x89 || opcode === 0x8c || (opcode & 0xfe) === 0xc6);
}

/** Whether an instruction drains the store buffer; WRMSR by its ECX. */
export function isFence(form: InstructionForm, ecx: number): boolean {
  if (isLocked(form)) return true;
  const { map, opcode, regBits, memory } = form;
  if (map === 'one') return opcode === IRET;
  if (map === '0f38') return opcode === INVEPT || opcode === INVVPID;
  if (map !== '0f' || form.encoding !== 'legacy') return false;
  switch (opcode) {
    case 0xae:
      return regBits === MFENCE && memory === null && form.mandatory === 0;
    case 0x01:
      // LGDT, LIDT and INVLPG; SERIALIZE.
      return memory === null
        ? form.mod === 3 && regBits === 5 && form.rmBits === 0
        : [2, 3, 7].includes(regBits);
    case 0x00:
      // LLDT and LTR.
      return regBits === 2 || regBits === 3;
    case WRMSR:
      return !(ecx >= X2APIC_FIRST && ecx <= X2APIC_LAST) && ecx !== MSR.IA32_TSC_DEADLINE;
    default:
      return SERIALIZING.has(opcode);
  }
}

const IRET = 0xcf;
const MFENCE = 6;
const INVEPT = 0x80;
const INVVPID = 0x81;
const WRMSR = 0x30;
/** INVD, WBINVD, MOV to CR and to DR, CPUID. */
const SERIALIZING: ReadonlySet<number> = new Set([0x08, 0x09, 0x22, 0x23, 0xa2]);
