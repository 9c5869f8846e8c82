/**
 * One pCPU of the machine: engine, root-mode models, page tables walked into an address space.
 *
 * Source: DESIGN ("One physical memory, one engine per pCPU", "Isolation by mapping").
 * Invariant: the engine maps what the tables at CR3 map and the owner map allows; anything else faults.
 * DEVIATION: with CR0.WP = 0 read-only data can be written, and code cannot.
 */
import { hex, toIndex, u64 } from '../../abi/uint.js';
import type { Engine } from '../cpu/engine.js';
import type { AddressSpace } from '../cpu/address-space.js';
import type { Mapping } from '../cpu/port.js';
import { leafMappings, tablePages, type LeafMapping } from '../memory/page-tables.js';
import type { Owner, PhysicalMemory } from '../memory/physical-memory.js';
import type { AccessRefusal, AddressSpacePort, CheckedAccess } from '../vmx/root/linear-memory.js';

/** Owners of what a payload may touch under its own tables. */
const REGISTERED: ReadonlySet<Owner> = new Set<Owner>(['payload', 'shared-metadata']);

/** Who wants to know what a core translates by, and knows how CR0 has it. */
export interface SpaceWatch {
  activated(cr3: bigint): void;
  isWriteProtected(): boolean;
}

const UNWATCHED: SpaceWatch = { activated: () => undefined, isWriteProtected: () => true };

/** One set of tables as the engine has it. */
interface Space {
  readonly space: AddressSpace;
  readonly mappings: readonly LeafMapping[];
  readonly generation: number;
  /** Offsets of the pages that the walk read. */
  readonly tables: ReadonlySet<number>;
}

/** The tables of one pCPU, walked when CR3 is loaded and kept until somebody says that tables changed. */
export class CoreAddressSpaces implements AddressSpacePort {
  readonly #memory: PhysicalMemory;
  readonly #engine: Engine;
  /** Whether tables at this root are a payload's own. */
  readonly #isIsolated: (cr3: bigint) => boolean;
  readonly #stops: () => Iterable<bigint>;
  readonly #watch: SpaceWatch;
  readonly #spaces = new Map<bigint, Space>();
  #generation = 0;
  #active: readonly LeafMapping[] = [];
  #isolated = false;

  /** `stops` are kernel addresses at which a run ends: they get a breakpoint in every space that maps them. */
  constructor(
    memory: PhysicalMemory,
    engine: Engine,
    isIsolated: (cr3: bigint) => boolean,
    stops: () => Iterable<bigint>,
    watch: SpaceWatch = UNWATCHED,
  ) {
    this.#memory = memory;
    this.#engine = engine;
    this.#isIsolated = isIsolated;
    this.#stops = stops;
    this.#watch = watch;
  }

  /** Tables were built, changed or destroyed: they are walked again at their next use. */
  tablesChanged(): void {
    this.#generation++;
  }

  /** Changes with every tablesChanged(). */
  get generation(): number {
    return this.#generation;
  }

  /** Memory went back to what it was at `generation`: whether walks since then may be of other tables than it holds. */
  isStaleAfterRestore(generation: number, changedPages: readonly number[]): boolean {
    if (generation !== this.#generation) return true;
    if (changedPages.length === 0) return false;
    return [...this.#spaces.values()].some(({ tables }) =>
      changedPages.some((page) => tables.has(page)),
    );
  }

  /** What the engine of this core may write from now on. */
  *writable(): Generator<Mapping> {
    for (const { space } of this.#spaces.values())
      for (const mapping of space.mappings)
        if (mapping.writable || mapping.shadowStack === true) yield mapping;
  }

  activate(cr3: bigint): string | null {
    this.#watch.activated(cr3);
    let found = this.#spaces.get(cr3);
    if (found?.generation !== this.#generation) {
      if (found !== undefined) this.#engine.disposeAddressSpace(found.space);
      const made = this.#make(cr3);
      if (typeof made === 'string') return made;
      found = made;
      this.#spaces.set(cr3, found);
    }
    this.#engine.activate(found.space);
    for (const stop of this.#stops()) {
      if (this.#engine.hasBreakpoint(stop)) continue;
      if (isExecutable(found.mappings, stop)) this.#engine.setBreakpoint(stop);
    }
    this.#active = found.mappings;
    this.#isolated = this.#isIsolated(cr3);
    return null;
  }

  check(linear: bigint, sizeBytes: number, access: CheckedAccess): AccessRefusal | null {
    const last = linear + BigInt(sizeBytes) - 1n;
    for (const address of linear >> 12n === last >> 12n ? [linear] : [linear, last & ~0xfffn]) {
      const mapping = this.#active.find(
        (m) => address >= m.linear && address < m.linear + BigInt(m.sizeBytes),
      );
      if (mapping === undefined || !allows(mapping, access))
        return {
          kind: 'page-fault',
          errorCode: pageFaultCode(mapping !== undefined, access),
          address,
        };
      if (this.#isolated && !this.#isRegistered(mapping)) return { kind: 'outside', address };
    }
    return null;
  }

  invalidate(): void {
    this.tablesChanged();
  }

  #make(cr3: bigint): Space | string {
    const all = leafMappings(this.#memory, cr3 & ~0xfffn);
    if (all.length === 0) return `the tables at ${hex(cr3)} map nothing`;
    const odd = all.find((m) => m.linear !== m.physical);
    if (odd !== undefined)
      return `${hex(odd.linear)} is mapped to ${hex(odd.physical)}; only identity is modelled`;
    const behind = all.flatMap((m) => this.#insideMemory(m));
    const allowed = this.#watch.isWriteProtected() ? behind : behind.map(withoutProtection);
    const isOwn = this.#isIsolated(cr3);
    const mappings = isOwn ? allowed.flatMap((m) => this.#registeredParts(m)) : allowed;
    for (const { physical, sizeBytes, writable, shadowStack } of mappings)
      if (writable || shadowStack) this.#memory.aboutToWrite(toIndex(physical), sizeBytes);
    return {
      space: this.#engine.createAddressSpace(mappings),
      mappings: allowed,
      generation: this.#generation,
      tables: new Set([...tablePages(this.#memory, cr3 & ~0xfffn)].map(toIndex)),
    };
  }

  /** Nothing is behind addresses past the memory that there is. */
  #insideMemory(mapping: LeafMapping): readonly LeafMapping[] {
    const room =
      this.#memory.sizeBytes - Math.min(this.#memory.sizeBytes, toIndex(mapping.physical));
    if (room === 0) return [];
    return [{ ...mapping, sizeBytes: Math.min(mapping.sizeBytes, room) }];
  }

  /** What of a mapping belongs to the payload: the rest is left out, so that touching it is a fault. */
  #registeredParts(mapping: LeafMapping): readonly LeafMapping[] {
    const parts: LeafMapping[] = [];
    for (let at = 0; at < mapping.sizeBytes; at += 4096) {
      const address = mapping.physical + u64(at);
      const owner = this.#memory.regionAt(toIndex(address))?.owner ?? 'free';
      if (!REGISTERED.has(owner)) continue;
      const last = parts.at(-1);
      if (last !== undefined && last.physical + BigInt(last.sizeBytes) === address) {
        parts[parts.length - 1] = { ...last, sizeBytes: last.sizeBytes + 4096 };
      } else {
        parts.push({ ...mapping, linear: address, physical: address, sizeBytes: 4096 });
      }
    }
    return parts;
  }

  #isRegistered(mapping: LeafMapping): boolean {
    return REGISTERED.has(this.#memory.regionAt(toIndex(mapping.physical))?.owner ?? 'free');
  }
}

/** CR0.WP = 0: supervisor code writes to read-only pages. */
function withoutProtection(mapping: LeafMapping): LeafMapping {
  return mapping.executable || mapping.shadowStack ? mapping : { ...mapping, writable: true };
}

/** Whether a page allows a supervisor access (SDM, "Access Rights"). */
function allows(mapping: LeafMapping, access: CheckedAccess): boolean {
  switch (access) {
    case 'read':
      return true;
    case 'write':
      return mapping.writable;
    case 'fetch':
      return mapping.executable;
    case 'shadow-stack-read':
    case 'shadow-stack-write':
      return mapping.shadowStack;
  }
}

/** What an access puts into the error code of a supervisor page fault (SDM, "Page-Fault Exceptions"). */
const PAGE_FAULT_CODE = {
  read: 0,
  write: 2,
  fetch: 16,
  'shadow-stack-read': 0x40,
  'shadow-stack-write': 0x42,
} as const satisfies Record<CheckedAccess, number>;

function pageFaultCode(isPresent: boolean, access: CheckedAccess): number {
  return (isPresent ? 1 : 0) | PAGE_FAULT_CODE[access];
}

function isExecutable(mappings: readonly LeafMapping[], address: bigint): boolean {
  return mappings.some(
    (m) => m.executable && address >= m.linear && address < m.linear + BigInt(m.sizeBytes),
  );
}
