/**
 * KVM's nested page tables of one VM: filled by EPT violations and by prefaulting, emptied when the host takes pages back.
 *
 * Source: Linux arch/x86/kvm/mmu/tdp_mmu.c: kvm_tdp_mmu_map(); mmu/spte.c: make_spte(), make_mmio_spte(); mmu.c:
 * mmu_topup_memory_caches(); virt/kvm/kvm_main.c: kvm_mmu_notifier_invalidate_range_start().
 * Invariant: every table lies in the root's page or in the pool, so what is preserved is known before the gap; the state
 * is the tables themselves.
 * Not modelled: large pages, several memory slots, the log of modified pages that hardware could keep (PML).
 */
import { toIndex } from '../../../abi/uint.js';
import { indexOf } from '../../memory/page-table-entries.js';
import { PAGE_SIZE } from '../../memory/physical-memory.js';
import { EPTE, EPTP_BITS, isPresent, misconfiguration } from '../../vmx/ept/entries.js';
import { eptLeaves, eptTables, type EptLeaf } from '../../vmx/ept/walk.js';
import type { VmxCapabilities } from '../../vmx/capabilities.js';
import { DONE, type Result } from '../result.js';
import type { KvmKernel } from './ports.js';

/** Pages for tables below the root. */
export const EPT_POOL_PAGES = 16;

/** VMX_EPT_MISCONFIG_WX_VALUE: an entry that hardware refuses with its own exit reason, for pages of emulated devices. */
const MMIO_ENTRY = EPTE.W | EPTE.X;

/** Guest-physical memory from 0 on. */
export interface MemorySlot {
  readonly hpa: bigint;
  readonly sizeBytes: number;
}

/**
 * How KVM learns which pages the guest writes: not at all; by taking write access away, so that each first write is an EPT
 * violation; or from the dirty flags that hardware sets, which needs nobody.
 */
export type DirtyLogging = 'off' | 'write-protect' | 'flags';

/** What came of an EPT violation. */
export type FaultOutcome =
  /** A page of the guest's memory is mapped as the access needs it. */
  | 'mapped'
  /** Nothing is there but a device: its entry is misconfigured from now on. */
  | 'mmio'
  /** No page for a table. */
  | 'no-memory';

export class KvmMmu {
  readonly #kernel: KvmKernel;
  readonly #capabilities: VmxCapabilities;
  /** The page that the EPT pointer names. */
  readonly root: bigint;
  #pool = 0n;
  slot: MemorySlot | null = null;
  logging: DirtyLogging = 'off';
  /** One bit a page of the slot, 0 without logging. */
  #bitmap = 0n;

  constructor(
    kernel: KvmKernel,
    capabilities: VmxCapabilities,
    root: bigint,
    from: { readonly pool: bigint; readonly bitmap: bigint } = { pool: 0n, bitmap: 0n },
  ) {
    this.#kernel = kernel;
    this.#capabilities = capabilities;
    this.root = root;
    this.#pool = from.pool;
    this.#bitmap = from.bitmap;
  }

  get eptp(): bigint {
    return this.root | EPTP_BITS;
  }

  /** Pages beside the root: tables, and the bitmap of dirty pages. */
  get pool(): bigint {
    return this.#pool;
  }
  get bitmap(): bigint {
    return this.#bitmap;
  }

  /** Every run of pages that must outlive the kernel. */
  runs(): readonly { readonly hpa: bigint; readonly pages: number; readonly what: string }[] {
    const all = [
      { hpa: this.root, pages: 1, what: 'EPT root' },
      { hpa: this.#pool, pages: EPT_POOL_PAGES, what: 'EPT tables' },
      { hpa: this.#bitmap, pages: 1, what: 'dirty bitmap' },
    ];
    return all.filter(({ hpa }) => hpa !== 0n);
  }

  /** mmu_topup_memory_caches(): pages before they are needed. Errnos: ENOMEM. */
  topUp(): Result<void> {
    if (this.#pool !== 0n) return DONE;
    const pool = this.#kernel.allocate({
      pages: EPT_POOL_PAGES,
      label: 'EPT tables',
      owner: 'vmx',
    });
    if (!pool.ok) return pool;
    this.#pool = pool.value;
    return DONE;
  }

  /** KVM_MEM_LOG_DIRTY_PAGES: write access is taken away. Cached translations are the caller's matter. Errnos: ENOMEM. */
  startLogging(): Result<void> {
    if (this.#bitmap === 0n) {
      const wish = { pages: 1, label: 'dirty bitmap', owner: 'shared-metadata' } as const;
      const page = this.#kernel.allocate(wish);
      if (!page.ok) return page;
      this.#bitmap = page.value;
    }
    this.logging = 'write-protect';
    for (const { at, entry } of this.#ram()) this.#kernel.memory.writeU64(at, entry & ~EPTE.W);
    return DONE;
  }

  /** From now on hardware's dirty flags tell, so that no write needs KVM; what was learnt stays. */
  logByFlags(): void {
    if (this.logging !== 'write-protect') return;
    this.logging = 'flags';
    for (const { at, entry } of this.#ram())
      this.#kernel.memory.writeU64(at, (entry | EPTE.W) & ~EPTE.DIRTY);
  }

  /** What the dirty flags have told since goes to the bitmap; the number of pages. */
  collectFlags(): number {
    const dirty = this.#ram().filter(({ entry }) => (entry & EPTE.DIRTY) !== 0n);
    for (const { gpa } of dirty) this.#setDirty(gpa);
    return dirty.length;
  }

  /** KVM_GET_DIRTY_LOG without clearing: pages that were written. */
  dirtyPages(): readonly bigint[] {
    const pages: bigint[] = [];
    const count = this.#bitmap === 0n ? 0 : (this.slot?.sizeBytes ?? 0) / PAGE_SIZE;
    for (let page = 0; page < count; page++) {
      const byte = this.#kernel.memory.readU8(this.#bitmap + BigInt(page >> 3));
      if ((byte & (1 << (page & 7))) !== 0) pages.push(BigInt(page * PAGE_SIZE));
    }
    return pages;
  }

  /** kvm_mmu_page_fault(). */
  fault(gpa: bigint, isWrite: boolean): FaultOutcome {
    const at = this.#leafAddress(gpa);
    if (at === null) return 'no-memory';
    const hpa = this.#ramAt(gpa);
    const { memory } = this.#kernel;
    if (hpa === null) {
      memory.writeU64(at, MMIO_ENTRY);
      return 'mmio';
    }
    const keepsWritesOut = this.logging === 'write-protect' && !isWrite;
    const rights = keepsWritesOut ? EPTE.R | EPTE.X : EPTE.RWX;
    const old = memory.readU64(at);
    const flags = isPresent(old) ? old & (EPTE.ACCESSED | EPTE.DIRTY | EPTE.W) : 0n;
    memory.writeU64(at, hpa | EPTE.WRITE_BACK | EPTE.IGNORE_PAT | rights | flags);
    if (this.logging === 'write-protect' && isWrite) this.#setDirty(gpa);
    return 'mapped';
  }

  /** KVM_PRE_FAULT_MEMORY over the slot; the number of pages that were not mapped. Errnos: ENOMEM. */
  prefault(): number | null {
    let mapped = 0;
    for (let at = 0; at < (this.slot?.sizeBytes ?? 0); at += PAGE_SIZE) {
      const gpa = BigInt(at);
      const slot = this.#leafAddress(gpa);
      if (slot === null) return null;
      if (isPresent(this.#kernel.memory.readU64(slot))) continue;
      this.fault(gpa, false);
      mapped++;
    }
    return mapped;
  }

  /** kvm_unmap_gfn_range(): leaves of that range are gone; their number. Cached translations are the caller's matter. */
  zap(gpa: bigint, sizeBytes: number): number {
    const end = gpa + BigInt(sizeBytes);
    const gone = this.#ram().filter((leaf) => leaf.gpa >= gpa && leaf.gpa < end);
    for (const { at, entry, gpa: page } of gone) {
      // The flag goes with the entry, and the log must not.
      if (this.logging === 'flags' && (entry & EPTE.DIRTY) !== 0n) this.#setDirty(page);
      this.#kernel.memory.writeU64(at, 0n);
    }
    return gone.length;
  }

  /** Leaves that map memory of the guest's. */
  #ram(): readonly EptLeaf[] {
    return [...eptLeaves(this.#kernel.memory, this.eptp)].filter(
      ({ entry, level }) => misconfiguration(entry, level, this.#capabilities) === null,
    );
  }

  #ramAt(gpa: bigint): bigint | null {
    const { slot } = this;
    const page = gpa & ~0xfffn;
    return slot === null || page >= BigInt(slot.sizeBytes) ? null : slot.hpa + page;
  }

  /** Where the leaf of an address is, with the tables above it made as needed; null when the pool is used up. */
  #leafAddress(gpa: bigint): bigint | null {
    const { memory } = this.#kernel;
    let table = this.root;
    for (const level of [4, 3, 2] as const) {
      const at = table + indexOf(gpa, level) * 8n;
      const entry = memory.readU64(at);
      if (!isPresent(entry)) {
        const page = this.#freePage();
        if (page === null) return null;
        memory.fill(page, PAGE_SIZE, 0);
        memory.writeU64(at, page | EPTE.RWX);
        table = page;
      } else table = entry & EPTE.ADDRESS;
    }
    return table + indexOf(gpa, 1) * 8n;
  }

  /** The first page of the pool that is no table yet. */
  #freePage(): bigint | null {
    if (!this.topUp().ok) return null;
    const used = new Set(eptTables(this.#kernel.memory, this.eptp).map(({ table }) => table));
    for (let page = 0; page < EPT_POOL_PAGES; page++) {
      const hpa = this.#pool + BigInt(page * PAGE_SIZE);
      if (!used.has(hpa)) return hpa;
    }
    return null;
  }

  #setDirty(gpa: bigint): void {
    const page = toIndex(gpa) / PAGE_SIZE;
    const at = this.#bitmap + BigInt(page >> 3);
    this.#kernel.memory.writeU8(at, this.#kernel.memory.readU8(at) | (1 << (page & 7)));
  }
}
