/**
 * The executable ranges of one engine: swept when something runs there, swept again when their bytes changed.
 *
 * Source: DESIGN ("Traps are sites, not callbacks").
 * Invariant: whatever runs has been swept from the bytes that are in memory now, as far as invalidate() was told of
 * changes: the engine refuses to fetch from a range until defineCode(). An id of a site never changes its meaning.
 */
import { toIndex } from '../../abi/uint.js';
import {
  executableExtents,
  joinExtents,
  type AddressSpace,
  type CodeExtent,
} from './address-space.js';
import { readForm, type InstructionForm } from './instruction-format.js';
import type { NativeEngine } from './native-binding.js';
import type { EngineStop, TrapSite } from './port.js';
import { BYTE_FLAG, sweep, type Sweep } from './sweep.js';
import { UNDEFINED_NAME } from './system-instructions.js';

interface SweptRange extends CodeExtent {
  /** What the last sweep said of each byte, null before the first. */
  flags: Uint8Array | null;
  siteAt: Map<number, number>;
  /** Bytes have changed since the last sweep. */
  isStale: boolean;
}

/** A stop at a site, made once for each site. */
export type SiteStop = Extract<EngineStop, { kind: 'site' | 'invalid-instruction' }>;

export class SweptCode {
  readonly #native: NativeEngine;
  readonly #memory: Uint8Array;
  readonly #starts = new Set<number>();
  readonly #stops: SiteStop[] = [];
  #ranges: SweptRange[] = [];
  #isStale = false;

  constructor(native: NativeEngine, memory: Uint8Array) {
    this.#native = native;
    this.#memory = memory;
  }

  /** Follows the address spaces that exist: what one may execute becomes a range, what none may is data again. */
  follow(spaces: Iterable<AddressSpace>): void {
    const extents: CodeExtent[] = [];
    for (const space of spaces) {
      const own = executableExtents(space.mappings);
      extents.push(...own);
      for (const extent of own) this.#starts.add(extent.base);
    }
    const wanted = joinExtents(extents);
    const kept: SweptRange[] = [];
    for (const range of this.#ranges) {
      const isWanted = wanted.some((w) => w.base === range.base && w.sizeBytes === range.sizeBytes);
      if (isWanted) kept.push(range);
      else if (range.flags !== null) this.#native.removeCode(range.base, range.sizeBytes);
    }
    for (const { base, sizeBytes } of wanted) {
      if (kept.some((range) => range.base === base)) continue;
      kept.push({ base, sizeBytes, flags: null, siteAt: new Map(), isStale: false });
    }
    this.#ranges = kept;
  }

  /** Says that bytes of [base, base + sizeBytes) were changed from outside. */
  invalidate(base: number, sizeBytes: number): void {
    for (const range of this.#ranges) {
      if (range.flags === null) continue;
      if (range.base >= base + sizeBytes || base >= range.base + range.sizeBytes) continue;
      range.isStale = true;
      this.#isStale = true;
    }
  }

  /** Addresses known to begin an instruction: entry points and symbols, where data lies between functions. */
  addStarts(addresses: Iterable<bigint>): void {
    for (const address of addresses) {
      const start = toIndex(address);
      this.#starts.add(start);
      this.invalidate(start, 1);
    }
  }

  /** Forgets what is stale: it is swept again when something runs there, which never happens to a kernel that is gone. */
  refresh(): void {
    if (!this.#isStale) return;
    for (const range of this.#ranges) {
      if (!range.isStale) continue;
      range.isStale = false;
      range.flags = null;
      this.#native.removeCode(range.base, range.sizeBytes);
    }
    this.#isStale = false;
  }

  /** Sweeps the range that holds an address; false when it was swept already or there is none. */
  sweepAt(address: bigint): boolean {
    const at = this.#rangeAt(address);
    if (at === undefined || at.range.flags !== null) return false;
    this.#sweep(at.range);
    return true;
  }

  /** Whether code lies in the range. */
  overlaps(base: number, sizeBytes: number): boolean {
    return this.#ranges.some((r) => r.base < base + sizeBytes && base < r.base + r.sizeBytes);
  }

  stopOf(id: number): SiteStop {
    return this.#stops[id]!;
  }

  siteAt(address: bigint): TrapSite | undefined {
    const at = this.#sweptRangeAt(address);
    const id = at?.range.siteAt.get(at.offset);
    const stop = id === undefined ? undefined : this.#stops[id];
    return stop?.kind === 'site' ? stop.site : undefined;
  }

  /** Every site of the ranges in address order. */
  sites(): TrapSite[] {
    this.refresh();
    for (const range of this.#ranges) if (range.flags === null) this.#sweep(range);
    const ids = [...this.#ranges]
      .sort((a, b) => a.base - b.base)
      .flatMap((range) => [...range.siteAt.values()]);
    return ids.flatMap((id) => {
      const stop = this.#stops[id]!;
      return stop.kind === 'site' ? [stop.site] : [];
    });
  }

  /** Where instructions of a kind begin in [base, base + sizeBytes), as the sweep sees them. */
  find(base: number, sizeBytes: number, isWanted: (form: InstructionForm) => boolean): bigint[] {
    this.refresh();
    const found: bigint[] = [];
    for (const range of this.#ranges) {
      if (range.base >= base + sizeBytes || base >= range.base + range.sizeBytes) continue;
      if (range.flags === null) this.#sweep(range);
      const bytes = this.#memory.subarray(range.base, range.base + range.sizeBytes);
      range.flags!.forEach((flags, offset) => {
        const at = range.base + offset;
        if ((flags & BYTE_FLAG.BOUNDARY) === 0 || at < base || at >= base + sizeBytes) return;
        const form = readForm(bytes, offset, bytes.length);
        if (form !== null && isWanted(form)) found.push(BigInt(at));
      });
    }
    return found;
  }

  /** Whether an instruction begins at the address, as the sweep sees it. */
  isBoundary(address: bigint): boolean {
    const at = this.#sweptRangeAt(address);
    return at !== undefined && (at.range.flags![at.offset]! & BYTE_FLAG.BOUNDARY) !== 0;
  }

  #sweptRangeAt(address: bigint): { range: SweptRange; offset: number } | undefined {
    this.refresh();
    this.sweepAt(address);
    return this.#rangeAt(address);
  }

  #rangeAt(address: bigint): { range: SweptRange; offset: number } | undefined {
    for (const range of this.#ranges) {
      const offset = address - BigInt(range.base);
      if (offset >= 0n && offset < BigInt(range.sizeBytes))
        return { range, offset: toIndex(offset) };
    }
    return undefined;
  }

  #sweep(range: SweptRange): void {
    const bytes = this.#memory.subarray(range.base, range.base + range.sizeBytes);
    const starts: number[] = [];
    for (const start of this.#starts) {
      if (start > range.base && start < range.base + range.sizeBytes)
        starts.push(start - range.base);
    }
    const found = sweepOnce(bytes, starts);
    const rows = new Int32Array(found.sites.length * 6);
    range.siteAt = new Map();
    found.sites.forEach(({ offset, instruction, inline, rm, reg }, index) => {
      const id = this.#stops.length;
      const site = { address: BigInt(range.base + offset), instruction };
      const isUndefined = instruction.name === UNDEFINED_NAME;
      this.#stops.push(isUndefined ? { kind: 'invalid-instruction' } : { kind: 'site', site });
      range.siteAt.set(offset, id);
      rows.set([offset, id, instruction.length, inline, rm, reg], index * 6);
    });
    range.flags = found.flags;
    range.isStale = false;
    this.#native.defineCode(range.base, found.flags, rows);
  }
}

/** A sweep and all that it depends on. */
interface KnownSweep {
  readonly bytes: Uint8Array;
  readonly starts: string;
  readonly found: Sweep;
}

/** Sweeps of late, oldest first: the engines of a machine run the same code, and its instances are copies. */
const KNOWN_SWEEPS = 16;
const knownSweeps: KnownSweep[] = [];

/** sweep(), made once for the same bytes. */
function sweepOnce(bytes: Uint8Array, starts: readonly number[]): Sweep {
  const key = starts.join();
  const known = knownSweeps.find(
    (one) => one.starts === key && Buffer.compare(one.bytes, bytes) === 0,
  );
  if (known !== undefined) return known.found;
  const found = sweep(bytes, starts);
  if (knownSweeps.length === KNOWN_SWEEPS) knownSweeps.shift();
  knownSweeps.push({ bytes: bytes.slice(), starts: key, found });
  return found;
}
