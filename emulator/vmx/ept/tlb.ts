/**
 * Guest-physical mappings that a logical processor has cached, by the address of the EPT PML4 table.
 *
 * Source: SDM, "Caching Translation Information" > "Guest-Physical Mappings", "Operations that Invalidate Cached Mappings".
 * Invariant: what is in it was in the tables once; nothing but an invalidation takes it out, so software that changes
 * tables without INVEPT is seen to have done so. Entries are shared by snapshots and never changed.
 * Not modelled: capacity, combined mappings of linear addresses, caches of paging-structure entries.
 */
import type { EptRights } from './walk.js';

/** One 4-KiB page. */
export interface CachedMapping {
  /** Of the page. */
  readonly hpa: bigint;
  readonly rights: EptRights;
  /** The dirty flag was set through it: writes need not look at the tables. */
  readonly isDirty: boolean;
}

/** Cached pages by "root:page". */
export type EptTlbState = ReadonlyMap<string, CachedMapping>;

const PAGE_BITS = 12n;
const ROOT = ~0xfffn;
const EMPTY: EptTlbState = new Map();

export class EptTlb {
  #mappings: EptTlbState = EMPTY;

  find(eptp: bigint, gpa: bigint): CachedMapping | undefined {
    return this.#mappings.size === 0 ? undefined : this.#mappings.get(key(eptp, gpa));
  }

  put(eptp: bigint, gpa: bigint, mapping: CachedMapping): void {
    this.#mappings = new Map(this.#mappings).set(key(eptp, gpa), mapping);
  }

  /** An EPT violation invalidates the mappings of its own address. */
  forget(eptp: bigint, gpa: bigint): void {
    if (this.find(eptp, gpa) === undefined) return;
    const rest = new Map(this.#mappings);
    rest.delete(key(eptp, gpa));
    this.#mappings = rest;
  }

  /** INVEPT, of one EPT pointer or of all. */
  invalidate(eptp: bigint | null): void {
    if (this.#mappings.size === 0) return;
    const prefix = eptp === null ? null : prefixOf(eptp);
    this.#mappings =
      prefix === null
        ? EMPTY
        : new Map([...this.#mappings].filter(([one]) => !one.startsWith(prefix)));
  }

  state(): EptTlbState {
    return this.#mappings;
  }

  restore(state: EptTlbState): void {
    this.#mappings = state;
  }
}

const prefixOf = (eptp: bigint): string => `${(eptp & ROOT).toString(16)}:`;

function key(eptp: bigint, gpa: bigint): string {
  return prefixOf(eptp) + (gpa >> PAGE_BITS).toString(16);
}
