/**
 * An address space as an engine holds it: what a CR3 maps, made once and switched to cheaply.
 *
 * Source: DESIGN ("Isolation by mapping").
 * Invariant: mappings are whole pages inside memory, linear = physical, and do not overlap.
 */
import { hex, toIndex } from '../../abi/uint.js';
import { PAGE_SIZE } from '../memory/physical-memory.js';
import { EngineError } from './engine-error.js';
import type { Mapping } from './port.js';

/** Made by Engine.createAddressSpace(). */
export class AddressSpace {
  readonly mappings: readonly Mapping[];
  /** The engine's own number for it. */
  readonly id: number;
  isDisposed = false;

  constructor(id: number, mappings: readonly Mapping[]) {
    this.id = id;
    this.mappings = mappings;
  }
}

/** A range of addresses, in bytes. */
export interface CodeExtent {
  readonly base: number;
  readonly sizeBytes: number;
}

/**
 * Refuses what an engine cannot hold.
 *
 * @throws EngineError MAPPING_NOT_IDENTITY, MAPPING_UNALIGNED, MAPPING_OUTSIDE_MEMORY, MAPPING_OVERLAP.
 */
export function checkMappings(mappings: readonly Mapping[], memoryBytes: number): void {
  const sorted = [...mappings].sort((a, b) =>
    a.linear < b.linear ? -1 : a.linear > b.linear ? 1 : 0,
  );
  let end = 0n;
  for (const mapping of sorted) {
    const { linear, physical, sizeBytes } = mapping;
    const details = { linear: hex(linear), physical: hex(physical), sizeBytes };
    if (linear !== physical) {
      throw new EngineError(
        'MAPPING_NOT_IDENTITY',
        `${hex(linear)} is mapped to ${hex(physical)}; only linear = physical runs`,
        details,
      );
    }
    if (linear % BigInt(PAGE_SIZE) !== 0n || sizeBytes % PAGE_SIZE !== 0 || sizeBytes <= 0) {
      throw new EngineError(
        'MAPPING_UNALIGNED',
        `mapping at ${hex(linear)} is not whole pages`,
        details,
      );
    }
    if (linear + BigInt(sizeBytes) > BigInt(memoryBytes)) {
      throw new EngineError(
        'MAPPING_OUTSIDE_MEMORY',
        `mapping at ${hex(linear)} ends outside memory`,
        details,
      );
    }
    if (linear < end) {
      throw new EngineError(
        'MAPPING_OVERLAP',
        `mapping at ${hex(linear)} overlaps the one before it`,
        details,
      );
    }
    end = linear + BigInt(sizeBytes);
  }
}

/** Rows of [base, size, writable | executable << 1 | shadow stack << 2], as the binding takes them. */
export function mappingRows(mappings: readonly Mapping[]): Float64Array {
  const rows = new Float64Array(mappings.length * 3);
  mappings.forEach((mapping, index) => {
    const permissions =
      (mapping.writable ? 1 : 0) |
      (mapping.executable ? 2 : 0) |
      (mapping.shadowStack === true ? 4 : 0);
    rows.set([toIndex(mapping.linear), mapping.sizeBytes, permissions], index * 3);
  });
  return rows;
}

/** The executable runs of some mappings and of ranges that are known already, joined where they touch. */
export function joinExtents(extents: readonly CodeExtent[]): CodeExtent[] {
  const sorted = [...extents].sort((a, b) => a.base - b.base);
  const joined: CodeExtent[] = [];
  for (const extent of sorted) {
    const last = joined.at(-1);
    if (last !== undefined && extent.base <= last.base + last.sizeBytes) {
      const end = Math.max(last.base + last.sizeBytes, extent.base + extent.sizeBytes);
      joined[joined.length - 1] = { base: last.base, sizeBytes: end - last.base };
    } else {
      joined.push({ base: extent.base, sizeBytes: extent.sizeBytes });
    }
  }
  return joined;
}

/** What a mapping list makes executable. */
export function executableExtents(mappings: readonly Mapping[]): CodeExtent[] {
  return mappings
    .filter((mapping) => mapping.executable)
    .map(({ linear, sizeBytes }) => ({ base: toIndex(linear), sizeBytes }));
}
