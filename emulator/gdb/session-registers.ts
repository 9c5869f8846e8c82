/**
 * Values of a core's registers as GDB has them: little-endian bytes of the register's size.
 *
 * Invariant: what the machine does not hold, or what the architecture leaves undefined, is null, never a guess.
 */
import { u64 } from '../../abi/uint.js';
import type { Edit } from '../debug/edits.js';
import type { Core } from '../machine/cores.js';
import type { SourcedRegister, X87Name } from './registers.js';

const VECTOR_BYTES = 16;
/** Engine.x87() in order. The last instruction and operand (fiseg to fop) are in no engine. */
const X87_SLOTS: readonly X87Name[] = [
  ...(['fstat', 'fctrl', 'ftag', 'mxcsr'] as const),
  ...(['st0', 'st1', 'st2', 'st3', 'st4', 'st5', 'st6', 'st7'] as const),
];

/** A register of a core. */
export function readCoreRegister(
  { pcpu, engine }: Core,
  { source, bits }: SourcedRegister,
): Uint8Array | null {
  switch (source.kind) {
    case 'file':
      return littleEndian(pcpu.registers.get(source.name), bits / 8);
    case 'vector': {
      const at = source.index * VECTOR_BYTES;
      return engine.vectors().slice(at, at + VECTOR_BYTES);
    }
    case 'x87': {
      const slot = X87_SLOTS.indexOf(source.name);
      if (slot < 0) return null;
      return engine.x87().slice(slot * VECTOR_BYTES, slot * VECTOR_BYTES + bits / 8);
    }
    case 'vmcs': {
      const vmcs = pcpu.vmx.current;
      const { slot } = source.field;
      return vmcs === null || vmcs.isPoison(slot) ? null : littleEndian(vmcs.get(slot), bits / 8);
    }
  }
}

/** The change that writes a register of a vCPU's core, null where there can be none. */
export function registerEdit(
  vcpu: number,
  { source }: SourcedRegister,
  bytes: Uint8Array,
): Edit | null {
  const value = valueOf(bytes);
  switch (source.kind) {
    case 'file':
      return { kind: 'register', vcpu, name: source.name, value };
    case 'vmcs':
      return { kind: 'field', vcpu, name: source.field.name, value };
    case 'vector':
    case 'x87':
      return null;
  }
}

function littleEndian(value: bigint, sizeBytes: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, u64(value), true);
  return bytes.subarray(0, sizeBytes);
}

function valueOf(bytes: Uint8Array): bigint {
  let value = 0n;
  for (const byte of [...bytes].reverse()) value = value * 256n + BigInt(byte);
  return value;
}
