/**
 * A memory plan: the image relocated to one physical address, page by page, with guard pages around it.
 *
 * Source: CONTRACT ("Instance": one copy per vCPU, relocated where it lies); x86-64 psABI, "Relocation Types".
 * Invariant: no page is writable and executable (there is no such Permissions); guard pages and the gaps between
 * segments have no range, so nothing maps them; PT_GNU_RELRO pages are read-only in the plan.
 */
import { hex, toIndex, u64 } from '../abi/uint.js';
import type { IdentityRange } from '../emulator/memory/page-tables.js';
import { PAGE_SIZE } from '../emulator/memory/physical-memory.js';
import { refuse } from './errors.js';
import type { AddressRange, CaretakerImage, ImageCcb, Permissions, Segment } from './image.js';
import { LIMITS } from './limits.js';
import { symbolise } from './symbols.js';
import type { SymbolisedAddress } from './symbols.js';

/** Whole pages with the same permissions, relocated; `name` lists the sections of the segment. */
export interface PlacedRange {
  readonly name: string;
  readonly base: bigint;
  readonly sizeBytes: number;
  readonly permissions: Permissions;
  readonly bytes: Uint8Array;
}

/** An image at a place; every address is physical and, being identity-mapped, linear. */
export interface LoadedImage {
  readonly image: CaretakerImage;
  /** Where the image's lowest page lies. */
  readonly base: bigint;
  /** Load address minus link-time address, modulo 2^64. */
  readonly slide: bigint;
  readonly entry: bigint;
  readonly ccb: ImageCcb;
  /** In address order, disjoint. */
  readonly ranges: readonly PlacedRange[];
  /** What the instance occupies: its pages and one guard page before and after. */
  readonly span: { readonly base: bigint; readonly sizeBytes: number };
}

const GUARD = BigInt(PAGE_SIZE);

/** Pages that an instance occupies, guards included. */
export function spanPages(image: CaretakerImage): number {
  return toIndex(image.pages.end - image.pages.start) / PAGE_SIZE + 2;
}

/**
 * Plans `image` with its lowest page at `base`; the page before it and the page after its end are guards.
 *
 * @throws LoaderError PLACE_UNALIGNED, PLACE_NOT_RELOCATABLE, PLACE_OUTSIDE_MEMORY
 */
export function place(image: CaretakerImage, base: bigint): LoadedImage {
  checkBase(image, base);
  const slide = u64(base - image.pages.start);
  const moved = (address: bigint): bigint => u64(address + slide);
  const bytes = relocatedBytes(image, slide);
  const ranges = image.segments.flatMap((segment) =>
    splitAtRelro(segment, image.relro).map(({ range, permissions }) => {
      const from = toIndex(range.start - image.pages.start);
      const sizeBytes = toIndex(range.end - range.start);
      return {
        name: segment.name,
        base: moved(range.start),
        sizeBytes,
        permissions,
        bytes: bytes.subarray(from, from + sizeBytes),
      };
    }),
  );
  const entryPoints = Object.entries(image.ccb.entryPoints).map(
    ([name, address]) => [name, moved(address)] as const,
  );
  return {
    image,
    base,
    slide,
    entry: moved(image.entry),
    ccb: {
      ...image.ccb,
      address: moved(image.ccb.address),
      entryPoints: Object.fromEntries(entryPoints),
    },
    ranges,
    span: { base: base - GUARD, sizeBytes: spanPages(image) * PAGE_SIZE },
  };
}

function checkBase(image: CaretakerImage, base: bigint): void {
  const { start, end } = image.pages;
  const actual = hex(base);
  if (base % GUARD !== 0n) {
    refuse('PLACE_UNALIGNED', `base ${actual} is no page boundary`, { actual });
  }
  if (base < GUARD || base + (end - start) + GUARD > LIMITS.addressEnd) {
    refuse('PLACE_OUTSIDE_MEMORY', `no room for the image and its guards at ${actual}`, { actual });
  }
  if (image.type === 'ET_EXEC' && base !== start) {
    const evidence = { expected: hex(start), actual };
    refuse(
      'PLACE_NOT_RELOCATABLE',
      `an ET_EXEC image linked at ${hex(start)} at ${actual}`,
      evidence,
    );
  }
}

/** All pages of the image as they are after relocation; gaps are zero and belong to no range. */
function relocatedBytes(image: CaretakerImage, slide: bigint): Uint8Array {
  const { start, end } = image.pages;
  const bytes = new Uint8Array(toIndex(end - start));
  for (const segment of image.segments) bytes.set(segment.bytes, toIndex(segment.address - start));
  const view = new DataView(bytes.buffer);
  for (const { address, addend } of image.relocations) {
    view.setBigUint64(toIndex(address - start), u64(addend + slide), true);
  }
  return bytes;
}

interface Part {
  readonly range: AddressRange;
  readonly permissions: Permissions;
}

function splitAtRelro(segment: Segment, relro: AddressRange | null): readonly Part[] {
  const start = segment.address - (segment.address % GUARD);
  const pages = Math.ceil(toIndex(segment.address - start + BigInt(segment.sizeBytes)) / PAGE_SIZE);
  const end = start + BigInt(pages * PAGE_SIZE);
  const { permissions } = segment;
  if (relro === null || relro.end <= start || end <= relro.start || permissions !== 'RW') {
    return [{ range: { start, end }, permissions }];
  }
  const parts: readonly Part[] = [
    { range: { start, end: relro.start }, permissions },
    { range: relro, permissions: 'R' },
    { range: { start: relro.end, end }, permissions },
  ];
  return parts.filter(({ range }) => range.start < range.end);
}

/** The ranges as page tables want them. */
export function identityRanges(loaded: LoadedImage): readonly IdentityRange[] {
  return loaded.ranges.map(({ base, sizeBytes, permissions }) => ({
    base,
    sizeBytes,
    writable: permissions === 'RW',
    executable: permissions === 'RX',
  }));
}

/** The nearest symbol at or below a load address. */
export function symboliseAt(loaded: LoadedImage, address: bigint): SymbolisedAddress | undefined {
  return symbolise(loaded.image, u64(address - loaded.slide));
}
