/**
 * Preserved vmalloc areas: scattered pages named by a chain of one-page chunks.
 *
 * Source: Linux kexec_handover.c: kho_preserve_vmalloc(); include/linux/kho/abi/kexec_handover.h.
 * ABI: a chunk is {u64 next, u64 phys[511]}, unused slots 0; the descriptor is {u64 first, u32 total_pages, u16 flags,
 * u16 order}, 16 bytes.
 */
import { u64 } from '../../../abi/uint.js';
import { PAGE_SIZE, type PhysicalBytes } from '../../memory/physical-memory.js';
import { hpaOf, pfnOf } from '../frames.js';
import { isPageOf } from './block-set.js';

/** What a record keeps of a preserved vmalloc area. */
export interface KhoVmalloc {
  /** Address of the first chunk. */
  readonly first: bigint;
  readonly totalPages: number;
  readonly flags: number;
  /** Each address names 2^order pages. */
  readonly order: number;
}

/** Bytes of a descriptor. */
export const KHO_VMALLOC_BYTES = 16;
/** Addresses in one chunk. */
export const VMALLOC_CHUNK_ENTRIES = PAGE_SIZE / 8 - 1;
/** The area came from vmalloc(). */
export const KHO_VMALLOC_ALLOC = 1;

/** Writes a descriptor. */
export function writeVmalloc(memory: PhysicalBytes, hpa: bigint, area: KhoVmalloc): void {
  memory.writeU64(hpa, area.first);
  memory.writeU32(hpa + 8n, area.totalPages);
  memory.writeU16(hpa + 12n, area.flags);
  memory.writeU16(hpa + 14n, area.order);
}

/** Reads a descriptor. */
export function readVmalloc(memory: PhysicalBytes, hpa: bigint): KhoVmalloc {
  return {
    first: memory.readU64(hpa),
    totalPages: memory.readU32(hpa + 8n),
    flags: memory.readU16(hpa + 12n),
    order: memory.readU16(hpa + 14n),
  };
}

/** Fills a zeroed chunk. */
export function writeChunk(
  memory: PhysicalBytes,
  chunk: bigint,
  next: bigint,
  pfns: readonly number[],
): void {
  memory.writeU64(chunk, next);
  pfns.forEach((pfn, index) => memory.writeU64(chunk + u64(8 + index * 8), hpaOf(pfn)));
}

/** The chunks of a chain and the frames they name; undefined where a link or an address cannot be right. */
export function readChunks(
  memory: PhysicalBytes,
  first: bigint,
): { readonly chunks: readonly bigint[]; readonly pfns: readonly number[] } | undefined {
  const chunks: bigint[] = [];
  const pfns: number[] = [];
  for (let chunk = first; chunk !== 0n; chunk = memory.readU64(chunk)) {
    if (!isPageOf(memory, chunk) || chunks.includes(chunk)) return undefined;
    chunks.push(chunk);
    for (let index = 0; index < VMALLOC_CHUNK_ENTRIES; index++) {
      const hpa = memory.readU64(chunk + u64(8 + index * 8));
      if (hpa === 0n) break;
      if (!isPageOf(memory, hpa)) return undefined;
      pfns.push(pfnOf(hpa));
    }
  }
  return { chunks, pfns };
}
