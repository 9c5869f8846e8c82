/**
 * The loaded segments together: order, overlap, shared pages, total span; and the segments that only describe.
 *
 * Source: System V ABI, "Program Header" ("Loadable segment entries appear in ascending order"); DESIGN ("The payload").
 * Invariant: after checkSegments() a page belongs to one segment, so page permissions follow from segment permissions.
 */
import { alignUp, hex } from '../../abi/uint.js';
import { PT } from '../elf-constants.js';
import { refuse } from '../errors.js';
import type { FileBytes } from '../file-bytes.js';
import type { AddressRange } from '../image.js';
import { LIMITS } from '../limits.js';
import type { Header } from './header.js';
import { checkLoad, readProgramHeaders } from './program-headers.js';
import type { LoadHeader, ProgramHeader } from './program-headers.js';

/** The page size as an address. */
export const PAGE = 4096n;

/** Everything the program headers say. */
export interface Segments {
  readonly loads: readonly LoadHeader[];
  /** Lowest page to end of the highest page. */
  readonly pages: AddressRange;
  readonly dynamic: ProgramHeader | null;
  /** Whole pages of PT_GNU_RELRO: only those can be made read-only once relocated. */
  readonly relro: AddressRange | null;
}

/** Checks all program headers. @throws LoaderError */
export function checkSegments(file: FileBytes, header: Header): Segments {
  const headers = readProgramHeaders(file, header);
  const loads = headers.filter((h) => h.type === PT.LOAD).map((h) => checkLoad(file, h));
  const pages = checkLayout(loads, header);
  for (const type of [PT.DYNAMIC, PT.GNU_RELRO, PT.GNU_STACK, PT.PHDR]) {
    const [, second] = headers.filter((h) => h.type === type);
    if (second !== undefined) {
      const evidence = { offset: second.at, actual: hex(type) };
      refuse('SEGMENT_DUPLICATE', `${second.label} is the second of type ${hex(type)}`, evidence);
    }
  }
  const described = (type: number): ProgramHeader | null => {
    const found = headers.find((h) => h.type === type);
    if (found === undefined) return null;
    checkDescribes(found, loads);
    return found;
  };
  described(PT.PHDR);
  const relro = relroPages(described(PT.GNU_RELRO));
  return { loads, pages, dynamic: described(PT.DYNAMIC), relro };
}

function checkLayout(loads: readonly LoadHeader[], header: Header): AddressRange {
  const [first] = loads;
  const last = loads.at(-1);
  if (first === undefined || last === undefined) {
    refuse('SEGMENTS_MISSING', 'no PT_LOAD has a size', { offset: header.programOffset });
  }
  loads.slice(1).forEach((load, index) => {
    const before = loads[index]!;
    const evidence = { offset: load.at + 16, expected: hex(before.end), actual: hex(load.address) };
    const pair = `${load.label} at ${hex(load.address)} after ${before.label} ending at ${hex(before.end)}`;
    if (load.address < before.address) refuse('SEGMENTS_UNORDERED', pair, evidence);
    if (load.address < before.end) refuse('SEGMENTS_OVERLAP', pair, evidence);
    if (pageOf(load.address) < alignUp(before.end, PAGE)) {
      refuse('SEGMENTS_SHARE_PAGE', pair, evidence);
    }
  });
  const pages = { start: pageOf(first.address), end: alignUp(last.end, PAGE) };
  if (pages.end - pages.start > BigInt(LIMITS.imageBytes)) {
    refuse('IMAGE_TOO_LARGE', `the image spans ${hex(pages.end - pages.start)} bytes`, {
      offset: last.at + 16,
      expected: `at most ${hex(LIMITS.imageBytes)}`,
      actual: hex(pages.end - pages.start),
    });
  }
  return pages;
}

function checkDescribes(header: ProgramHeader, loads: readonly LoadHeader[]): void {
  const load = loadContaining(loads, header.address, header.end);
  const delta = BigInt(header.offset) - header.address;
  if (load !== undefined && delta === BigInt(load.offset) - load.address) return;
  refuse(
    'SEGMENT_NOT_LOADED',
    `${header.label} describes ${hex(header.address)} to ${hex(header.end)}`,
    {
      offset: header.at + 16,
      actual: hex(header.address),
    },
  );
}

function relroPages(header: ProgramHeader | null): AddressRange | null {
  if (header === null) return null;
  const range = { start: pageOf(header.address), end: pageOf(header.end) };
  return range.start < range.end ? range : null;
}

/** The page that holds an address. */
export function pageOf(address: bigint): bigint {
  return address - (address % PAGE);
}

/** The segment that holds all of `[start, end)`, by bisection: hostile files have many of both. */
export function loadContaining(
  loads: readonly LoadHeader[],
  start: bigint,
  end: bigint,
): LoadHeader | undefined {
  let low = 0;
  let high = loads.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (loads[middle]!.end <= start) low = middle + 1;
    else high = middle;
  }
  const load = loads[low];
  return load !== undefined && load.address <= start && end <= load.end ? load : undefined;
}
