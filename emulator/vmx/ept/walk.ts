/**
 * The walk of EPT paging structures for one guest-physical access.
 *
 * Source: SDM, "The Extended Page Table Mechanism (EPT)" > "EPT Translation Mechanism", "EPT-Induced VM Exits".
 * Invariant: each entry is judged where the walk meets it: not present ends in a violation, then misconfigured ends in a
 * misconfiguration; rights are those that all entries leave, and are looked at behind the leaf.
 * Not modelled: memory types beyond what makes an entry illegal.
 */
import { indexOf, LEVEL_BYTES, type Level } from '../../memory/page-table-entries.js';
import { PAGE_SIZE, type PhysicalBytes } from '../../memory/physical-memory.js';
import type { VmxCapabilities } from '../capabilities.js';
import { EPTE, EPTP, isPresent, mapsPage, misconfiguration } from './entries.js';

/** What an access needs: bits of EPTE.RWX. */
export type EptRights = bigint;

export type EptWalk =
  | {
      readonly kind: 'mapped';
      readonly hpa: bigint;
      readonly rights: EptRights;
      /** Addresses of the entries that were used, the leaf last. */
      readonly entries: readonly bigint[];
      readonly level: Level;
    }
  /** `rights` is the logical AND of bits 2:0 of the entries met, 0 with one that is not present among them. */
  | { readonly kind: 'violation'; readonly rights: EptRights; readonly level: Level }
  | { readonly kind: 'misconfiguration'; readonly rule: string; readonly level: Level };

/** Translates a guest-physical address with the tables at an EPT pointer. */
export function walkEpt(
  memory: PhysicalBytes,
  cpu: VmxCapabilities,
  eptp: bigint,
  gpa: bigint,
  needs: EptRights,
): EptWalk {
  let table = eptp & EPTP.ADDRESS;
  let rights: EptRights = EPTE.RWX;
  const entries: bigint[] = [];
  for (const level of [4, 3, 2, 1] as const) {
    const at = table + indexOf(gpa, level) * 8n;
    const entry = readEntry(memory, at);
    rights &= entry;
    if (!isPresent(entry)) return { kind: 'violation', rights: 0n, level };
    const rule = misconfiguration(entry, level, cpu);
    if (rule !== null) return { kind: 'misconfiguration', rule, level };
    entries.push(at);
    if (!mapsPage(entry, level)) {
      table = entry & EPTE.ADDRESS;
      continue;
    }
    if ((rights & needs) !== needs) return { kind: 'violation', rights, level };
    const hpa = (entry & EPTE.ADDRESS) | (gpa & (LEVEL_BYTES[level] - 1n));
    return { kind: 'mapped', hpa, rights, entries, level };
  }
  // Level 1 always maps a page.
  return { kind: 'violation', rights: 0n, level: 1 };
}

/** Where no memory answers, a bus read gives ones: an entry that breaks every rule there is. */
function readEntry(memory: PhysicalBytes, at: bigint): bigint {
  return at + 8n <= BigInt(memory.sizeBytes) ? memory.readU64(at) : 0xffff_ffff_ffff_ffffn;
}

/** One leaf of the tables. */
export interface EptLeaf {
  readonly gpa: bigint;
  readonly level: Level;
  readonly entry: bigint;
  /** Address of the entry. */
  readonly at: bigint;
}

/** All present leaves, misconfigured ones too, in the order of guest-physical addresses. */
export function* eptLeaves(memory: PhysicalBytes, eptp: bigint): Generator<EptLeaf> {
  for (const { table, level, base } of eptTables(memory, eptp)) {
    for (let index = 0n; index < 512n; index++) {
      const at = table + index * 8n;
      const entry = memory.readU64(at);
      const gpa = base + index * LEVEL_BYTES[level];
      if (isPresent(entry) && mapsPage(entry, level)) yield { gpa, level, entry, at };
    }
  }
}

/** One page of the tables: `base` is the first guest-physical address that it translates. */
export interface EptTable {
  readonly table: bigint;
  readonly level: Level;
  readonly base: bigint;
}

/** Every page that the tables occupy, the root first; a table that lies outside memory is left out. */
export function eptTables(memory: PhysicalBytes, eptp: bigint): readonly EptTable[] {
  const found: EptTable[] = [];
  const visit = (table: bigint, level: Level, base: bigint): void => {
    if (table + BigInt(PAGE_SIZE) > BigInt(memory.sizeBytes)) return;
    found.push({ table, level, base });
    if (level === 1) return;
    for (let index = 0n; index < 512n; index++) {
      const entry = memory.readU64(table + index * 8n);
      if (!isPresent(entry) || mapsPage(entry, level)) continue;
      visit(entry & EPTE.ADDRESS, (level - 1) as Level, base + index * LEVEL_BYTES[level]);
    }
  };
  visit(eptp & EPTP.ADDRESS, 4, 0n);
  return found;
}
