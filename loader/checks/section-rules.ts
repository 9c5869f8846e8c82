/**
 * Which allocated sections a payload may have, and what each must look like: one row a name.
 *
 * Source: DESIGN ("The payload"): .text (RX), .rodata, .data, .bss, .ccb and the few that a PIE needs.
 */
import { SHF, SHT } from '../elf-constants.js';
import type { Permissions } from '../image.js';

/** What an allocated section of some name may be. */
export interface SectionRule {
  readonly types: readonly number[];
  /** Of WRITE and EXECINSTR, those that must be set; null where both spellings of "writable" occur. */
  readonly access: bigint | null;
  readonly segment: readonly Permissions[];
}

const BYTES = [SHT.PROGBITS];
const DATA = [SHT.PROGBITS, SHT.NOBITS];
const READABLE = ['R', 'RW'] as const;

// prettier-ignore
const RULES: Readonly<Record<string, SectionRule>> = {
  '.text':        { types: BYTES,          access: SHF.EXECINSTR, segment: ['RX'] },
  '.rodata':      { types: BYTES,          access: 0n,            segment: ['R'] },
  '.data.rel.ro': { types: BYTES,          access: SHF.WRITE,     segment: ['RW'] },
  '.data':        { types: BYTES,          access: SHF.WRITE,     segment: ['RW'] },
  '.bss':         { types: DATA,           access: SHF.WRITE,     segment: ['RW'] },
  '.ccb':         { types: BYTES,          access: SHF.WRITE,     segment: ['RW'] },
  '.rela.dyn':    { types: [SHT.RELA],     access: 0n,            segment: READABLE },
  '.dynamic':     { types: [SHT.DYNAMIC],  access: null,          segment: READABLE },
  '.dynsym':      { types: [SHT.DYNSYM],   access: 0n,            segment: READABLE },
  '.dynstr':      { types: [SHT.STRTAB],   access: 0n,            segment: READABLE },
  '.hash':        { types: [SHT.HASH],     access: 0n,            segment: READABLE },
  '.gnu.hash':    { types: [SHT.GNU_HASH], access: 0n,            segment: READABLE },
};
const NOTE_RULE: SectionRule = { types: [SHT.NOTE], access: 0n, segment: READABLE };

/** Sections that linkers leave behind empty; with contents they mean a GOT, a PLT or unwind tables. */
export const ONLY_EMPTY: ReadonlySet<string> = new Set(['.got', '.got.plt', '.plt', '.eh_frame']);

/** The rule for an allocated section, or undefined when a payload may not have it. */
export function sectionRule(name: string): SectionRule | undefined {
  if (Object.hasOwn(RULES, name)) return RULES[name];
  return name.startsWith('.note.') ? NOTE_RULE : undefined;
}

/** Flags an allocated section may have besides WRITE, ALLOC and EXECINSTR: they say how it was linked. */
export const HARMLESS_FLAGS =
  SHF.MERGE | SHF.STRINGS | SHF.INFO_LINK | SHF.LINK_ORDER | SHF.GNU_RETAIN;

/** The entry size of each kind of table that the loader reads. */
export const ENTRY_SIZES: ReadonlyMap<number, bigint> = new Map([
  [SHT.SYMTAB, 24n],
  [SHT.DYNSYM, 24n],
  [SHT.RELA, 24n],
  [SHT.DYNAMIC, 16n],
]);
