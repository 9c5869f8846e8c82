/**
 * Predicates that many checks of VM entry share, on 32-bit halves so that no check on the hot path makes a bigint.
 *
 * Source: SDM, "Canonical Addressing" (48-bit linear addresses), "Page Attribute Table".
 */
import { VMCS_SLOT, type FieldName } from '../../../abi/vmcs-fields.js';
import { ENTRY_CONTROL, PRIMARY } from '../../../abi/vmx-controls.js';
import type { AllowedBits } from '../capabilities.js';
import type { PhysicalBytes } from '../../memory/physical-memory.js';
import type { VmcsDescription } from '../description.js';
import type { EntryCpu, Read, VmcsView } from './rule.js';

const {
  PIN_BASED_VM_EXEC_CONTROL,
  CPU_BASED_VM_EXEC_CONTROL,
  SECONDARY_VM_EXEC_CONTROL,
  TERTIARY_VM_EXEC_CONTROL,
  VM_EXIT_CONTROLS,
  VM_ENTRY_CONTROLS,
} = VMCS_SLOT;

/** Whether a pin-based control is 1. */
export function pin(v: VmcsView, bit: number): boolean {
  return (v.low(PIN_BASED_VM_EXEC_CONTROL) & bit) !== 0;
}

/** Whether a primary processor-based control is 1. */
export function primary(v: VmcsView, bit: number): boolean {
  return (v.low(CPU_BASED_VM_EXEC_CONTROL) & bit) !== 0;
}

/** Whether a secondary processor-based control is 1; all are 0 unless the primary controls activate them. */
export function secondary(v: VmcsView, bit: number): boolean {
  return (
    (v.low(CPU_BASED_VM_EXEC_CONTROL) & PRIMARY.ACTIVATE_SECONDARY) !== 0 &&
    (v.low(SECONDARY_VM_EXEC_CONTROL) & bit) !== 0
  );
}

/** Whether a tertiary processor-based control is 1; all are 0 unless the primary controls activate them. */
export function tertiary(v: VmcsView, bit: number): boolean {
  return (
    (v.low(CPU_BASED_VM_EXEC_CONTROL) & PRIMARY.ACTIVATE_TERTIARY) !== 0 &&
    (v.low(TERTIARY_VM_EXEC_CONTROL) & bit) !== 0
  );
}

/** Whether a VM-exit control is 1. */
export function exit(v: VmcsView, bit: number): boolean {
  return (v.low(VM_EXIT_CONTROLS) & bit) !== 0;
}

/** Whether a VM-entry control is 1. */
export function entry(v: VmcsView, bit: number): boolean {
  return (v.low(VM_ENTRY_CONTROLS) & bit) !== 0;
}

/** Whether the guest will be in IA-32e mode after VM entry. */
export function ia32e(v: VmcsView): boolean {
  return entry(v, ENTRY_CONTROL.IA32E_MODE);
}

/** Bits of the pin-based controls, for `reads`. */
export function pinBits(bits: number): Read {
  return { field: 'PIN_BASED_VM_EXEC_CONTROL', bits };
}

/** Bits of the primary processor-based controls, for `reads`. */
export function primaryBits(bits: number): Read {
  return { field: 'CPU_BASED_VM_EXEC_CONTROL', bits };
}

/** What secondary() reads. */
export const SECONDARY_READS: readonly Read[] = [
  primaryBits(PRIMARY.ACTIVATE_SECONDARY),
  'SECONDARY_VM_EXEC_CONTROL',
];

/** What tertiary() reads. */
export const TERTIARY_READS: readonly Read[] = [
  primaryBits(PRIMARY.ACTIVATE_TERTIARY),
  'TERTIARY_VM_EXEC_CONTROL',
];

/** Whether a control word has every bit that must be 1 and none that must be 0. */
export function isAllowed(word: number, bits: AllowedBits): boolean {
  return (bits.allowed0 & ~word) === 0 && (word & ~bits.allowed1) === 0;
}

/** Whether bits 63:47 are all equal. */
export function isCanonicalField(v: VmcsView, slot: number): boolean {
  const top = v.high(slot) >>> 15;
  return top === 0 || top === 0x1_ffff;
}

/** Whether no bit beyond the physical-address width is set. */
export function isWithinWidth(v: VmcsView, slot: number, cpu: EntryCpu): boolean {
  return v.high(slot) >>> (cpu.capabilities.physicalAddressBits - 32) === 0;
}

/** Whether the field is the physical address of a page. */
export function isPage(v: VmcsView, slot: number, cpu: EntryCpu): boolean {
  return (v.low(slot) & 0xfff) === 0 && isWithinWidth(v, slot, cpu);
}

/** Whether each byte names a memory type of the PAT: 0, 1, 4, 5, 6 or 7. */
export function isPat(v: VmcsView, slot: number): boolean {
  return isPatHalf(v.low(slot)) && isPatHalf(v.high(slot));
}

function isPatHalf(half: number): boolean {
  for (let shift = 0; shift < 32; shift += 8) {
    const type = (half >>> shift) & 0xff;
    if (type > 7 || type === 2 || type === 3) return false;
  }
  return true;
}

/** Whether no bit outside `allowed` is set. */
export function onlyBits(v: VmcsView, slot: number, allowed: bigint): boolean {
  return (v.get(slot) & ~allowed) === 0n;
}

/** 64 bits of memory, all ones where the machine has none, as an unclaimed bus address reads. */
export function readPhysical(memory: PhysicalBytes, hpa: bigint): bigint {
  return hpa + 8n <= BigInt(memory.sizeBytes) ? memory.readU64(hpa) : 0xffff_ffff_ffff_ffffn;
}

/** The described value of a field with bits set, for `breaks`. */
export function withBits(
  valid: VmcsDescription,
  name: FieldName,
  ...bits: readonly (number | bigint)[]
): bigint {
  return bits.reduce<bigint>((value, bit) => value | positive(bit), valid[name] ?? 0n);
}

/** The described value of a field with bits cleared, for `breaks`. */
export function withoutBits(
  valid: VmcsDescription,
  name: FieldName,
  ...bits: readonly (number | bigint)[]
): bigint {
  return bits.reduce<bigint>((value, bit) => value & ~positive(bit), valid[name] ?? 0n);
}

function positive(bit: number | bigint): bigint {
  return typeof bit === 'bigint' ? bit : BigInt(bit >>> 0);
}
