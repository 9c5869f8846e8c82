/**
 * Segment descriptors as the processor reads them from the GDT.
 *
 * Source: SDM, "Segment Descriptors", "System Segment Descriptor Types" (64-bit mode).
 * Invariant: a selector that names the LDT finds nothing: the LDTR is null in root operation.
 * Not modelled: the LDT, call gates, 16-bit and 32-bit system descriptors.
 */
import { low32, u64 } from '../../../abi/uint.js';
import { REG, type RegisterFile } from '../../cpu/registers.js';
import type { LinearMemory } from './linear-memory.js';
import type { Failure } from './outcome.js';

/** An eight-byte descriptor, decoded. */
export interface SegmentDescriptor {
  readonly kind: 'descriptor';
  /** Linear address in the GDT. */
  readonly address: bigint;
  /** Bits 43:40: the type of a system descriptor, or code, conforming or expand-down, readable or writable, accessed. */
  readonly type: number;
  readonly isSystem: boolean;
  readonly dpl: number;
  readonly isPresent: boolean;
  readonly isLong: boolean;
  readonly isDefault32: boolean;
  /** Bits 23:8 of the second doubleword, as LAR delivers them; those of the limit are undefined there. */
  readonly accessRights: number;
  /** The low 32 bits of the base. */
  readonly base: bigint;
  readonly limit: bigint;
}

/** Nothing is there: beyond the limit, or in the LDT. */
export interface NoDescriptor {
  readonly kind: 'none';
}

/** What a selector that names no descriptor finds. */
export const NOTHING: NoDescriptor = { kind: 'none' };

const TYPE_CODE = 8;
const TYPE_CONFORMING = 4;
const TYPE_WRITABLE = 2;
const TYPE_ACCESSED = 1;

/** The requested privilege level of a selector. */
export function rplOf(selector: number): number {
  return selector & 3;
}

/** A null selector names entry 0 of the GDT, whatever its RPL. */
export function isNullSelector(selector: number): boolean {
  return (selector & 0xfffc) === 0;
}

export function isCode({ isSystem, type }: SegmentDescriptor): boolean {
  return !isSystem && (type & TYPE_CODE) !== 0;
}

export function isConforming({ type }: SegmentDescriptor): boolean {
  return (type & TYPE_CONFORMING) !== 0;
}

export function isWritableData({ isSystem, type }: SegmentDescriptor): boolean {
  return !isSystem && (type & TYPE_CODE) === 0 && (type & TYPE_WRITABLE) !== 0;
}

/** Data, or code that may be read. */
export function isReadable({ isSystem, type }: SegmentDescriptor): boolean {
  return !isSystem && ((type & TYPE_CODE) === 0 || (type & TYPE_WRITABLE) !== 0);
}

/** Looks a selector up; `sizeBytes` is 16 for a system descriptor. */
export function lookUp(
  memory: LinearMemory,
  registers: RegisterFile,
  selector: number,
  sizeBytes: 8 | 16 = 8,
): SegmentDescriptor | NoDescriptor | Failure {
  const offset = selector & 0xfff8;
  const isLdt = (selector & 4) !== 0;
  if (isLdt || u64(offset + sizeBytes - 1) > registers.values[REG.GDTR_LIMIT]!) {
    return NOTHING;
  }
  const address = u64(registers.values[REG.GDTR_BASE]! + BigInt(offset));
  const failure = memory.openImplicit('gdt', address, sizeBytes, 'read');
  return failure ?? decode(address, memory.bytes.readU64(address));
}

/** Sets the accessed bit of a code or data descriptor, as loading it does. */
export function markAccessed(memory: LinearMemory, descriptor: SegmentDescriptor): Failure | null {
  if (descriptor.isSystem || (descriptor.type & TYPE_ACCESSED) !== 0) return null;
  return setType(memory, descriptor, TYPE_ACCESSED);
}

/** Turns an available TSS into a busy one, as LTR does. */
export function markBusy(memory: LinearMemory, descriptor: SegmentDescriptor): Failure | null {
  return setType(memory, descriptor, 2);
}

function setType(
  memory: LinearMemory,
  descriptor: SegmentDescriptor,
  bits: number,
): Failure | null {
  const address = descriptor.address + 5n;
  const failure = memory.openImplicit('gdt', address, 1, 'write');
  if (failure === null) memory.bytes.writeU8(address, memory.bytes.readU8(address) | bits);
  return failure;
}

function decode(address: bigint, raw: bigint): SegmentDescriptor {
  const field = (shift: bigint, mask: bigint): number => low32((raw >> shift) & mask);
  const limit = (raw & 0xffffn) | ((raw >> 32n) & 0xf_0000n);
  const isPageGranular = field(55n, 1n) === 1;
  return {
    kind: 'descriptor',
    address,
    type: field(40n, 0xfn),
    isSystem: field(44n, 1n) === 0,
    dpl: field(45n, 3n),
    isPresent: field(47n, 1n) === 1,
    isLong: field(53n, 1n) === 1,
    isDefault32: field(54n, 1n) === 1,
    accessRights: field(32n, 0xff_ff00n),
    base: ((raw >> 16n) & 0xff_ffffn) | ((raw >> 32n) & 0xff00_0000n),
    limit: isPageGranular ? (limit << 12n) | 0xfffn : limit,
  };
}
