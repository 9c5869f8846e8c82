/**
 * Memory as a stopped core reaches it, page by page, or physical memory as it is.
 *
 * Source: SDM, "4-Level Paging and 5-Level Paging"; a core in VMX non-root operation is looked at as the payload would be
 * at the next exit, through HOST_CR3.
 * What one core does not map is looked for with the others: to GDB all threads share one address space, and an expression
 * about one vCPU must stay readable when another one stops.
 * Invariant: reading changes nothing, accessed bits included; a debugger may write what the payload may only read.
 */
import { toIndex, u64 } from '../../abi/uint.js';
import type { PhysicalMemory } from '../memory/physical-memory.js';
import { walk } from '../memory/page-tables.js';
import type { Core } from '../machine/cores.js';
import type { Lane } from '../machine/lane.js';
import type { AddressKind } from './target.js';

const PAGE = 4096;

/** A run of bytes that lie together in physical memory. */
interface Piece {
  readonly physical: bigint;
  readonly sizeBytes: number;
}

/** The root of the tables that a core's memory is looked at through. */
export function rootOf({ pcpu }: Core, lane: Lane | undefined): bigint {
  const vmcs = pcpu.vmx.current;
  return lane?.phase === 'guest' && vmcs !== null
    ? vmcs.read('HOST_CR3')
    : pcpu.registers.get('CR3');
}

/** Where bytes lie, up to the first that is nowhere. */
function piecesOf(
  memory: PhysicalMemory,
  roots: readonly bigint[],
  kind: AddressKind,
  address: bigint,
  sizeBytes: number,
): Piece[] {
  const pieces: Piece[] = [];
  for (let done = 0; done < sizeBytes;) {
    const at = u64(address + BigInt(done));
    const size = Math.min(PAGE - toIndex(at % BigInt(PAGE)), sizeBytes - done);
    const physical = kind === 'physical' ? at : translated(memory, roots, at);
    if (physical === null || physical + BigInt(size) > BigInt(memory.sizeBytes)) break;
    pieces.push({ physical, sizeBytes: size });
    done += size;
  }
  return pieces;
}

function translated(
  memory: PhysicalMemory,
  roots: readonly bigint[],
  address: bigint,
): bigint | null {
  for (const root of roots) {
    const result = walk(memory, root, address);
    if (result.kind === 'mapped') return result.physical;
  }
  return null;
}

/** As many of the bytes as there are. */
export function readBytes(
  memory: PhysicalMemory,
  roots: readonly bigint[],
  kind: AddressKind,
  address: bigint,
  sizeBytes: number,
): Uint8Array {
  const pieces = piecesOf(memory, roots, kind, address, sizeBytes);
  const bytes = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.sizeBytes, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(memory.read(piece.physical, piece.sizeBytes), at);
    at += piece.sizeBytes;
  }
  return bytes;
}

/** Bytes by the physical address where each part of them goes; null when one goes nowhere. */
export function placesOf(
  memory: PhysicalMemory,
  roots: readonly bigint[],
  kind: AddressKind,
  address: bigint,
  bytes: Uint8Array,
): { readonly address: bigint; readonly bytes: Uint8Array }[] | null {
  const pieces = piecesOf(memory, roots, kind, address, bytes.length);
  let at = 0;
  const places = pieces.map(({ physical, sizeBytes }) => {
    const part = bytes.subarray(at, at + sizeBytes);
    at += sizeBytes;
    return { address: physical, bytes: part };
  });
  return at === bytes.length ? places : null;
}
