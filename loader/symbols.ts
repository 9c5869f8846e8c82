/**
 * Symbol tables: every symbol checked, those that name an address of the image kept, and the way back from an address.
 *
 * Source: System V ABI, "Symbol Table".
 * Invariant: symbols are sorted by address; among equals a function comes last, so it is the one that symbolise() finds.
 * Not modelled: versions, visibility beyond local or not.
 */
import { hex, toIndex } from '../abi/uint.js';
import type { SectionHeader } from './checks/section-headers.js';
import { ELF, SHN, SHT, STB, STT } from './elf-constants.js';
import { refuse } from './errors.js';
import type { FileBytes, FileRange } from './file-bytes.js';
import type { AddressRange, CaretakerImage, ImageSymbol } from './image.js';
import { LIMITS } from './limits.js';

/** An address in words: `dispatch` and 0x1c. */
export interface SymbolisedAddress {
  readonly name: string;
  readonly offset: number;
}

const KINDS: ReadonlyMap<number, ImageSymbol['kind']> = new Map([
  [STT.NOTYPE, 'label'],
  [STT.OBJECT, 'object'],
  [STT.FUNC, 'function'],
]);
const SILENT: ReadonlySet<number> = new Set([STT.SECTION, STT.FILE]);
const RANK = { label: 0, object: 1, function: 2 } as const;

/** Checks .symtab and .dynsym; gives back the symbols of .symtab that name addresses. @throws LoaderError */
export function readSymbols(
  file: FileBytes,
  sections: readonly SectionHeader[],
  pages: AddressRange,
): readonly ImageSymbol[] {
  const symbols = [SHT.DYNSYM, SHT.SYMTAB].map((type) => {
    const [table, second] = sections.filter((section) => section.type === type);
    if (second !== undefined) {
      refuse('SYMBOL_TABLE_BAD', `${second.name} is a second table of its kind`, {
        offset: second.at,
      });
    }
    return table === undefined ? [] : readTable(file, table, sections, pages);
  });
  return symbols[1]!.sort(byAddress);
}

function readTable(
  file: FileBytes,
  table: SectionHeader,
  sections: readonly SectionHeader[],
  pages: AddressRange,
): ImageSymbol[] {
  const count = table.sizeBytes / ELF.SYM_BYTES;
  if (count > LIMITS.symbols) {
    const evidence = { offset: table.at + 32, expected: LIMITS.symbols, actual: count };
    refuse('SYMBOLS_TOO_MANY', `${table.name} has ${count} symbols`, evidence);
  }
  const names = stringTable(file, table, sections);
  const symbols: ImageSymbol[] = [];
  for (let index = 1; index < count; index++) {
    const symbol = readSymbol(file, table.offset + index * ELF.SYM_BYTES, names, sections, pages);
    if (symbol !== undefined) symbols.push(symbol);
  }
  return symbols;
}

function stringTable(
  file: FileBytes,
  table: SectionHeader,
  sections: readonly SectionHeader[],
): FileRange {
  const strings = sections[table.link];
  const isTable = strings?.type === SHT.STRTAB && strings.sizeBytes > 0;
  const end = isTable ? strings.offset + strings.sizeBytes : 0;
  if (!isTable || file.u8(end - 1) !== 0) {
    const evidence = { offset: table.at + 40, actual: table.link };
    refuse('SYMBOL_TABLE_BAD', `${table.name} is linked to no terminated string table`, evidence);
  }
  return { start: strings.offset, end };
}

function readSymbol(
  file: FileBytes,
  at: number,
  names: FileRange,
  sections: readonly SectionHeader[],
  pages: AddressRange,
): ImageSymbol | undefined {
  const name = file.string(names, file.u32(at), LIMITS.symbolNameBytes);
  if (name === undefined) {
    refuse('SYMBOL_NAME_BAD', 'a symbol has no name inside its string table', {
      offset: at,
      actual: hex(file.u32(at)),
    });
  }
  const sectionIndex = file.u16(at + 6);
  if (sectionIndex === SHN.UNDEF) {
    refuse('SYMBOL_UNDEFINED', `symbol ${name} is undefined`, { offset: at + 6, actual: name });
  }
  const type = file.u8(at + 4) & 0xf;
  const kind = KINDS.get(type);
  if (kind === undefined && !SILENT.has(type)) {
    const evidence = { offset: at + 4, actual: type };
    refuse('SYMBOL_TYPE_REFUSED', `symbol ${name} has type ${type}`, evidence);
  }
  if (sectionIndex === SHN.ABS) return undefined;
  const section = sections[sectionIndex];
  if (section === undefined) {
    const evidence = { offset: at + 6, actual: hex(sectionIndex) };
    refuse('SYMBOL_SECTION_BAD', `symbol ${name} is in section ${hex(sectionIndex)}`, evidence);
  }
  if (kind === undefined || !section.isAllocated || name === '') return undefined;
  const address = file.u64(at + 8);
  const size = file.u64(at + 16);
  const isInside = pages.start <= address && address + size <= pages.end;
  if (!isInside && size > 0n) {
    refuse('SYMBOL_OUTSIDE_IMAGE', `symbol ${name} has ${hex(size)} bytes at ${hex(address)}`, {
      offset: at + 8,
      expected: `${hex(pages.start)} to ${hex(pages.end)}`,
      actual: hex(address),
    });
  }
  // A label outside the image (a linker script's marker) names no address of it.
  if (!isInside) return undefined;
  const isGlobal = file.u8(at + 4) >> 4 !== STB.LOCAL;
  return { name, address, sizeBytes: toIndex(size), kind, isGlobal, section: section.name };
}

/** The nearest symbol at or below a link-time address, in the same section; undefined where none is. */
export function symbolise(image: CaretakerImage, address: bigint): SymbolisedAddress | undefined {
  const { symbols } = image;
  let low = 0;
  let high = symbols.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (symbols[middle]!.address <= address) low = middle + 1;
    else high = middle;
  }
  const symbol = symbols[low - 1];
  if (symbol === undefined) return undefined;
  const section = image.sections.find((s) => s.name === symbol.section);
  if (section === undefined || address >= section.address + BigInt(section.sizeBytes)) {
    return undefined;
  }
  return { name: symbol.name, offset: toIndex(address - symbol.address) };
}

/** The symbol named `name`, a global one before a local one. */
export function symbolNamed(image: CaretakerImage, name: string): ImageSymbol | undefined {
  const found = image.symbols.filter((symbol) => symbol.name === name);
  return found.find((symbol) => symbol.isGlobal) ?? found[0];
}

function byAddress(a: ImageSymbol, b: ImageSymbol): number {
  if (a.address !== b.address) return a.address < b.address ? -1 : 1;
  if (a.kind !== b.kind) return RANK[a.kind] - RANK[b.kind];
  return a.name < b.name ? 1 : -1;
}
