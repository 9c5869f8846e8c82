/**
 * .text and the functions in it, of any linked x86-64 ELF file: for files that are no payload of the RFC's contract.
 *
 * Source: the ELF-64 gABI, "Sections" and "Symbol Table".
 * Invariant: a function that is given lies inside the section. Unlinked files have no addresses, and give nothing.
 */
import { readSectionTable, sectionContents } from './dwarf/sections.js';
import { LIMITS } from './limits.js';

/** The section and its functions. */
export interface CodeSection {
  readonly bytes: Uint8Array;
  readonly address: bigint;
  readonly functions: readonly { readonly name: string; readonly address: bigint }[];
}

const ET_REL = 1;
const SHT_SYMTAB = 2;
const SHT_NOBITS = 8;
const STT_FUNC = 2;
const SYMBOL_BYTES = 24;

/** @throws DwarfError when the section table is none. */
export function readCodeSection(file: Uint8Array): CodeSection | undefined {
  const sections = readSectionTable(file);
  const text = sections.find(({ name, type }) => name === '.text' && type !== SHT_NOBITS);
  if (text === undefined || file[16] === ET_REL) return undefined;
  const bytes = sectionContents(file, text);
  const end = text.address + BigInt(bytes.length);
  const table = sections.find(({ type }) => type === SHT_SYMTAB);
  const names = table && sections[table.link];
  if (table === undefined || names === undefined || names.type === SHT_NOBITS) {
    return { bytes, address: text.address, functions: [] };
  }
  const symbols = sectionContents(file, table);
  const view = new DataView(symbols.buffer, symbols.byteOffset, symbols.byteLength);
  const strings = sectionContents(file, names);
  const functions = new Map<bigint, string>();
  for (let at = 0; at + SYMBOL_BYTES <= symbols.length; at += SYMBOL_BYTES) {
    const address = view.getBigUint64(at + 8, true);
    const isFunction = (symbols[at + 4]! & 15) === STT_FUNC;
    if (isFunction && address >= text.address && address < end) {
      functions.set(address, nameAt(strings, view.getUint32(at, true)));
    }
  }
  return {
    bytes,
    address: text.address,
    functions: [...functions].map(([address, name]) => ({ address, name })),
  };
}

function nameAt(strings: Uint8Array, start: number): string {
  const rest = strings.subarray(start, start + LIMITS.symbolNameBytes);
  const nul = rest.indexOf(0);
  return Buffer.from(rest.subarray(0, nul < 0 ? rest.length : nul)).toString('latin1');
}
