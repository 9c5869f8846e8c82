/**
 * The bytes of KHO that cross kexec, but for the flattened device tree around them.
 *
 * Source: Linux include/linux/kho/abi/kexec_handover.h; arch/x86 struct kho_data and SETUP_KEXEC_KHO.
 * ABI: setup_data {u64 next, u32 type, u32 len} + kho_data {u64 fdt, u64 fdt size, u64 scratch, u64 scratch size};
 * scratch entry {u64 base, u64 size}; memory map entry u64: address of a block, its order in the low 12 bits.
 * DEVIATION: Linux keeps the map in bitmaps or a radix tree; here it is a chain of blocks, found by the same property.
 */
import { toIndex, u64 } from '../../../abi/uint.js';
import { PAGE_SIZE, type PhysicalBytes } from '../../memory/physical-memory.js';
import { framesOf, hpaOf, MAX_PAGE_ORDER, pfnOf, type Block, type FrameRange } from '../frames.js';

export const KHO_COMPATIBLE = 'kho-v1';
export const KHO_MEMORY_MAP_PROPERTY = 'preserved-memory-map';
export const KHO_SUBTREE_PROPERTY = 'fdt';
export const SETUP_KEXEC_KHO = 10;
export const MEMORY_MAP_ENTRY_BYTES = 8;
const SCRATCH_ENTRY_BYTES = 16;
const SETUP_DATA_HEADER_BYTES = 16;
const KHO_DATA_BYTES = 32;
const MAX_SETUP_DATA = 64;

/** What setup_data tells the next kernel. */
export interface KhoData {
  readonly fdt: bigint;
  readonly fdtBytes: number;
  readonly scratch: readonly FrameRange[];
}

/** Writes a setup_data entry at `hpa` with the scratch list right behind it. */
export function writeKhoData(memory: PhysicalBytes, hpa: bigint, data: KhoData): void {
  const scratchAt = hpa + u64(SETUP_DATA_HEADER_BYTES + KHO_DATA_BYTES);
  memory.writeU64(hpa, 0n);
  memory.writeU32(hpa + 8n, SETUP_KEXEC_KHO);
  memory.writeU32(hpa + 12n, KHO_DATA_BYTES);
  memory.writeU64(hpa + 16n, data.fdt);
  memory.writeU64(hpa + 24n, u64(data.fdtBytes));
  memory.writeU64(hpa + 32n, scratchAt);
  memory.writeU64(hpa + 40n, u64(data.scratch.length * SCRATCH_ENTRY_BYTES));
  data.scratch.forEach((range, index) => {
    const at = scratchAt + u64(index * SCRATCH_ENTRY_BYTES);
    memory.writeU64(at, hpaOf(range.start));
    memory.writeU64(at + 8n, u64(range.count * PAGE_SIZE));
  });
}

/** Finds KHO's entry in the setup_data list at `head`; undefined where there is none that makes sense. */
export function readKhoData(memory: PhysicalBytes, head: bigint): KhoData | undefined {
  let hpa = head;
  for (let hops = 0; hops < MAX_SETUP_DATA && hpa !== 0n; hops++) {
    if (!fits(memory, hpa, SETUP_DATA_HEADER_BYTES + KHO_DATA_BYTES)) return undefined;
    if (memory.readU32(hpa + 8n) === SETUP_KEXEC_KHO) return readEntry(memory, hpa);
    hpa = memory.readU64(hpa);
  }
  return undefined;
}

function readEntry(memory: PhysicalBytes, hpa: bigint): KhoData | undefined {
  const [fdt, fdtBytes] = [memory.readU64(hpa + 16n), memory.readU64(hpa + 24n)];
  const [list, listBytes] = [memory.readU64(hpa + 32n), memory.readU64(hpa + 40n)];
  if (fdtBytes > u64(PAGE_SIZE) || !fits(memory, fdt, toIndex(fdtBytes))) return undefined;
  if (listBytes > u64(PAGE_SIZE) || !fits(memory, list, toIndex(listBytes))) return undefined;
  const scratch: FrameRange[] = [];
  for (let at = 0; at + SCRATCH_ENTRY_BYTES <= toIndex(listBytes); at += SCRATCH_ENTRY_BYTES) {
    const base = memory.readU64(list + u64(at));
    const sizeBytes = memory.readU64(list + u64(at + 8));
    if (base % u64(PAGE_SIZE) !== 0n || sizeBytes % u64(PAGE_SIZE) !== 0n) return undefined;
    if (sizeBytes === 0n || sizeBytes > u64(memory.sizeBytes)) return undefined;
    if (!fits(memory, base, toIndex(sizeBytes))) return undefined;
    scratch.push(framesOf(toIndex(base), toIndex(sizeBytes)));
  }
  return { fdt, fdtBytes: toIndex(fdtBytes), scratch };
}

/** A block as an entry of the memory map. */
export function encodeMapEntry(block: Block): Uint8Array {
  const entry = new Uint8Array(MEMORY_MAP_ENTRY_BYTES);
  new DataView(entry.buffer).setBigUint64(0, hpaOf(block.pfn) | u64(block.order), true);
  return entry;
}

/** The block of an entry; undefined where it is none of this memory. */
export function decodeMapEntry(memory: PhysicalBytes, entry: Uint8Array): Block | undefined {
  const value = new DataView(entry.buffer, entry.byteOffset, entry.length).getBigUint64(0, true);
  const order = toIndex(value % u64(PAGE_SIZE));
  const hpa = value - u64(order);
  if (order > MAX_PAGE_ORDER || !fits(memory, hpa, PAGE_SIZE * 2 ** order)) return undefined;
  const pfn = pfnOf(hpa);
  return pfn % 2 ** order === 0 ? { pfn, order } : undefined;
}

function fits(memory: PhysicalBytes, hpa: bigint, bytes: number): boolean {
  return hpa + u64(bytes) <= u64(memory.sizeBytes);
}
