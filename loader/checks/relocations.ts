/**
 * The relocation table of a PIE: R_X86_64_RELATIVE only.
 *
 * Source: x86-64 psABI, "Relocation Types" (R_X86_64_RELATIVE: B + A); DESIGN ("The payload").
 * Invariant: after readRelocations() each target is 8 bytes of one writable segment and no two targets overlap.
 */
import { hex, low32, toIndex } from '../../abi/uint.js';
import { DT, ELF, R_X86_64_RELATIVE } from '../elf-constants.js';
import { refuse } from '../errors.js';
import type { FileBytes } from '../file-bytes.js';
import type { Relocation } from '../image.js';
import { LIMITS } from '../limits.js';
import type { Dynamic } from './dynamic.js';
import type { Header } from './header.js';
import type { LoadHeader } from './program-headers.js';
import type { SectionHeader } from './section-headers.js';
import type { Segments } from './segments.js';

/** Reads and checks every relocation of .rela.dyn, which readDynamic() holds against DT_RELA. @throws LoaderError */
export function readRelocations(
  file: FileBytes,
  header: Header,
  dynamic: Dynamic,
  sections: readonly SectionHeader[],
  segments: Segments,
): readonly Relocation[] {
  checkSizes(dynamic);
  const table = sections.find((section) => section.name === '.rela.dyn' && section.isAllocated);
  if (table === undefined) return [];
  if (header.type === 'ET_EXEC') {
    refuse('RELOCATIONS_IN_ET_EXEC', '.rela.dyn in an ET_EXEC file', { offset: table.at });
  }
  const count = table.sizeBytes / ELF.RELA_BYTES;
  const areas = segments.loads.map((load) => ({
    load,
    first: toIndex(load.address),
    last: toIndex(load.end) - 8,
  }));
  const image = { first: toIndex(segments.pages.start), last: toIndex(segments.pages.end) };
  const targets = new Float64Array(count);
  const relocations: Relocation[] = [];
  for (let index = 0; index < count; index++) {
    const at = table.offset + index * ELF.RELA_BYTES;
    checkRelocation(file, at, areas, image);
    targets[index] = file.float64(at);
    relocations.push({ address: file.u64(at), addend: file.u64(at + 16) });
  }
  checkOverlap(targets, table.offset);
  return relocations;
}

/** A segment with the lowest and the highest address of 8 bytes in it. */
interface Area {
  readonly load: LoadHeader;
  readonly first: number;
  readonly last: number;
}

function checkSizes(dynamic: Dynamic): void {
  const table = dynamic.get(DT.RELA);
  const size = dynamic.get(DT.RELASZ);
  const entry = dynamic.get(DT.RELAENT);
  const counted = dynamic.get(DT.RELACOUNT);
  const some = table ?? size ?? entry ?? counted;
  if (some === undefined) return;
  if (
    table === undefined ||
    size === undefined ||
    entry?.value !== BigInt(ELF.RELA_BYTES) ||
    size.value % BigInt(ELF.RELA_BYTES) !== 0n
  ) {
    refuse(
      'RELOCATION_TABLE_INCONSISTENT',
      'DT_RELA, DT_RELASZ and DT_RELAENT do not fit together',
      {
        offset: (entry ?? size ?? some).at,
        expected: `entries of ${ELF.RELA_BYTES} bytes`,
        actual: `${hex(size?.value ?? 0n)} bytes, entries of ${hex(entry?.value ?? 0n)}`,
      },
    );
  }
  const count = size.value / BigInt(ELF.RELA_BYTES);
  if (count > BigInt(LIMITS.relocations)) {
    const evidence = { offset: size.at + 8, expected: LIMITS.relocations, actual: hex(count) };
    refuse('RELOCATIONS_TOO_MANY', `DT_RELASZ makes ${hex(count)} relocations`, evidence);
  }
  // All are relative, so the count of those that come first is the count of all.
  if (counted !== undefined && counted.value !== count) {
    const evidence = { offset: counted.at + 8, expected: hex(count), actual: hex(counted.value) };
    refuse('RELOCATION_TABLE_INCONSISTENT', 'DT_RELACOUNT is not their number', evidence);
  }
}

/** On floats, not bigints: a hostile file has 65536 of these, and what is not exact is beyond every segment. */
function checkRelocation(
  file: FileBytes,
  at: number,
  areas: readonly Area[],
  image: { readonly first: number; readonly last: number },
): void {
  if (file.float64(at + 8) !== R_X86_64_RELATIVE) {
    const info = file.u64(at + 8);
    const type = low32(info);
    refuse('RELOCATION_TYPE_REFUSED', `relocation of ${hex(file.u64(at))} has type ${type}`, {
      offset: at + 8,
      expected: hex(R_X86_64_RELATIVE),
      actual: hex(info),
    });
  }
  const address = file.float64(at);
  const area = areas.find(({ first, last }) => first <= address && address <= last);
  if (area?.load.permissions !== 'RW') refuseTarget(at, file.u64(at), area?.load);
  const addend = file.float64(at + 16);
  if (image.first <= addend && addend <= image.last) return;
  const actual = hex(file.u64(at + 16));
  refuse('RELOCATION_ADDEND_OUTSIDE_IMAGE', `relocation of ${hex(file.u64(at))} to ${actual}`, {
    offset: at + 16,
    expected: `${hex(image.first)} to ${hex(image.last)}`,
    actual,
  });
}

function refuseTarget(at: number, address: bigint, load: LoadHeader | undefined): never {
  const evidence = { offset: at, actual: hex(address) };
  if (load === undefined) {
    refuse('RELOCATION_TARGET_OUTSIDE_SEGMENT', `relocation of ${hex(address)}`, evidence);
  }
  const message = `relocation of ${hex(address)} in ${load.label}, which is ${load.permissions}`;
  refuse('RELOCATION_TARGET_READ_ONLY', message, evidence);
}

function checkOverlap(targets: Float64Array, start: number): void {
  targets.sort();
  for (let index = 1; index < targets.length; index++) {
    const address = targets[index]!;
    if (address - targets[index - 1]! >= 8) continue;
    const evidence = { offset: start, actual: hex(address) };
    refuse('RELOCATIONS_OVERLAP', `two relocations change ${hex(address)}`, evidence);
  }
}
