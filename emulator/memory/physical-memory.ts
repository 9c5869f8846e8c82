/**
 * The machine's physical memory: one page-aligned buffer that every engine maps and every model sees, and who owns
 * which part of it.
 *
 * Source: DESIGN ("One physical memory, one engine per pCPU"); an hpa here is an index into the buffer.
 * Invariant: regions never overlap; a read or write outside the buffer throws and never wraps.
 * Not modelled: caches, memory types, memory-mapped devices.
 */
import { HarnessError } from '../../abi/errors.js';
import type { StructBytes } from '../../abi/layout.js';
import { hex, toIndex } from '../../abi/uint.js';

export const PAGE_SIZE = 4096;

/** Who a region of physical memory belongs to; the isolation invariant is checked against this. */
export type Owner =
  | 'payload'
  | 'guest'
  | 'old-kernel'
  | 'next-kernel'
  | 'kho-scratch'
  | 'shared-metadata'
  | 'vmx'
  | 'free';

/** `base` and `sizeBytes` are page multiples; `label` is what a report prints. */
export interface Region {
  readonly base: number;
  readonly sizeBytes: number;
  readonly owner: Owner;
  readonly label: string;
}

export type MemoryErrorCode = 'MEMORY_OUT_OF_RANGE' | 'MEMORY_REGION_OVERLAP' | 'MEMORY_UNALIGNED';
export class MemoryError extends HarnessError<MemoryErrorCode> {}

/** Anything that can be read and written by physical address. */
export interface PhysicalBytes extends StructBytes {
  readonly sizeBytes: number;
  /** A copy of `length` bytes. */
  read(hpa: bigint, length: number): Uint8Array;
  write(hpa: bigint, bytes: Uint8Array): void;
  fill(hpa: bigint, length: number, value: number): void;
}

/** Hears of every write before it happens; an engine's when a page is mapped writable for it. */
export interface WriteFollower {
  beforeWrite(at: number, length: number): void;
}

export class PhysicalMemory implements PhysicalBytes {
  readonly buffer: ArrayBuffer;
  readonly bytes: Uint8Array;
  readonly sizeBytes: number;
  readonly #view: DataView;
  readonly #regions: Region[] = [];
  #ownerChanges = 0;
  /** Null while nobody wants to know. */
  writeFollower: WriteFollower | null = null;

  /** `buffer` comes from the engine binding, page aligned, or is a plain one where no engine runs. */
  constructor(buffer: ArrayBuffer) {
    if (buffer.byteLength % PAGE_SIZE !== 0) {
      throw new MemoryError(
        'MEMORY_UNALIGNED',
        `memory size ${hex(buffer.byteLength)} is no page multiple`,
      );
    }
    this.buffer = buffer;
    this.bytes = new Uint8Array(buffer);
    this.sizeBytes = buffer.byteLength;
    this.#view = new DataView(buffer);
  }

  readU8(hpa: bigint): number {
    return this.#view.getUint8(this.#offset(hpa, 1));
  }
  readU16(hpa: bigint): number {
    return this.#view.getUint16(this.#offset(hpa, 2), true);
  }
  readU32(hpa: bigint): number {
    return this.#view.getUint32(this.#offset(hpa, 4), true);
  }
  readU64(hpa: bigint): bigint {
    return this.#view.getBigUint64(this.#offset(hpa, 8), true);
  }
  writeU8(hpa: bigint, value: number): void {
    this.#view.setUint8(this.#target(hpa, 1), value);
  }
  writeU16(hpa: bigint, value: number): void {
    this.#view.setUint16(this.#target(hpa, 2), value, true);
  }
  writeU32(hpa: bigint, value: number): void {
    this.#view.setUint32(this.#target(hpa, 4), value, true);
  }
  writeU64(hpa: bigint, value: bigint): void {
    this.#view.setBigUint64(this.#target(hpa, 8), value, true);
  }
  read(hpa: bigint, length: number): Uint8Array {
    const at = this.#offset(hpa, length);
    return this.bytes.slice(at, at + length);
  }
  write(hpa: bigint, bytes: Uint8Array): void {
    this.bytes.set(bytes, this.#target(hpa, bytes.length));
  }
  fill(hpa: bigint, length: number, value: number): void {
    const at = this.#target(hpa, length);
    this.bytes.fill(value, at, at + length);
  }

  /** Tells the follower of a write that does not come through here, before it happens. */
  aboutToWrite(at: number, length: number): void {
    if (this.writeFollower !== null && length > 0) this.writeFollower.beforeWrite(at, length);
  }

  /** Gives `[base, base + sizeBytes)` an owner. @throws MemoryError MEMORY_REGION_OVERLAP, MEMORY_UNALIGNED. */
  claim(region: Region): void {
    if (
      region.base % PAGE_SIZE !== 0 ||
      region.sizeBytes % PAGE_SIZE !== 0 ||
      region.sizeBytes <= 0
    ) {
      throw new MemoryError('MEMORY_UNALIGNED', `region ${region.label} is not whole pages`);
    }
    if (region.base < 0 || region.base + region.sizeBytes > this.sizeBytes) {
      throw new MemoryError('MEMORY_OUT_OF_RANGE', `region ${region.label} lies outside memory`);
    }
    const other = this.#regions.find(
      (r) => r.base < region.base + region.sizeBytes && region.base < r.base + r.sizeBytes,
    );
    if (other !== undefined) {
      throw new MemoryError(
        'MEMORY_REGION_OVERLAP',
        `region ${region.label} overlaps ${other.label}`,
      );
    }
    this.#ownerChanges++;
    this.#regions.push(region);
    this.#regions.sort((a, b) => a.base - b.base);
  }

  /** Takes back the region that begins at `base`. */
  release(base: number): void {
    const at = this.#regions.findIndex((r) => r.base === base);
    if (at < 0) return;
    this.#ownerChanges++;
    this.#regions.splice(at, 1);
  }

  /** The region that holds `hpa`, or undefined where memory is free. */
  regionAt(hpa: number): Region | undefined {
    let low = 0;
    let high = this.#regions.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const region = this.#regions[middle]!;
      if (hpa < region.base) high = middle;
      else if (hpa >= region.base + region.sizeBytes) low = middle + 1;
      else return region;
    }
    return undefined;
  }

  /** How often anything was claimed or released; the owner map is what it was while this is. */
  get ownerChanges(): number {
    return this.#ownerChanges;
  }

  /** All claimed regions in address order. */
  regions(): readonly Region[] {
    return this.#regions;
  }

  /** The offset of bytes that are about to be written. */
  #target(hpa: bigint, length: number): number {
    const at = this.#offset(hpa, length);
    this.aboutToWrite(at, length);
    return at;
  }

  #offset(hpa: bigint, length: number): number {
    if (hpa < 0n || hpa + BigInt(length) > BigInt(this.sizeBytes)) {
      throw new MemoryError(
        'MEMORY_OUT_OF_RANGE',
        `access of ${String(length)} bytes at ${hex(hpa)}`,
        {
          hpa: hex(hpa),
          length,
        },
      );
    }
    return toIndex(hpa);
  }
}
