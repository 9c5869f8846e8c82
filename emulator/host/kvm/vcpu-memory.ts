/**
 * Every page behind one vCPU with a Caretaker: where it is, who owns it, and the record that tells the next kernel.
 *
 * Source: CONTRACT ("Instance", "Reachable and preserved").
 * Invariant: one list says what is allocated, preserved, mapped, restored and freed; nothing is named twice.
 */
import { StructView } from '../../../abi/layout.js';
import { KVM_SER_VERSION, KVM_VCPU_SER, KVM_VCPU_SER_MAGIC } from '../../../abi/kho-records.js';
import { toIndex } from '../../../abi/uint.js';
import { PAGE_SIZE } from '../../memory/physical-memory.js';
import type { Owner, PhysicalBytes } from '../../memory/physical-memory.js';
import { DONE, type Result } from '../result.js';
import type { KvmKernel } from './ports.js';
import { SHADOW_STACK_PAGES } from './shadow-stacks.js';

/** The payload's stack: a power of two, aligned to it, with the CCB's address in its lowest word. */
export const STACK_BYTES = 16384;

/** One allocation behind a vCPU. */
export interface VcpuPages {
  readonly what: PagesName;
  readonly hpa: bigint;
  readonly pages: number;
}

// prettier-ignore
/** Pages behind every vCPU, whether or not a Caretaker is installed; then those of the Caretaker. */
const WISHES = {
  vmcs:      { pages: 1, owner: 'vmx' },
  vmxon:     { pages: 1, owner: 'vmx' },
  msrBitmap: { pages: 1, owner: 'vmx' },
  virtualApic: { pages: 1, owner: 'shared-metadata' },
  config:    { pages: 2, owner: 'shared-metadata' },
  telemetry: { pages: 2, owner: 'shared-metadata' },
  softState: { pages: 1, owner: 'shared-metadata' },
  stack:     { pages: STACK_BYTES / PAGE_SIZE, owner: 'payload', align: STACK_BYTES / PAGE_SIZE },
  tables:    { pages: 24, owner: 'payload' },
} as const satisfies Record<string, { pages: number; owner: Owner; align?: number }>;

/** The name of an allocation; the instance is sized by the image, and shadow stacks are there when the host offers them. */
export type PagesName = keyof typeof WISHES | 'instance' | 'shadowStack';

/** The pages of an instance; `at` where the image is linked, if it cannot move. */
export interface InstanceWish {
  readonly pages: number;
  readonly at?: bigint;
}

export class VcpuMemory {
  readonly #pages = new Map<PagesName, VcpuPages>();

  /** Allocates everything but the instance. Errnos: ENOMEM, with nothing left allocated. */
  static allocate(
    kernel: KvmKernel,
    vcpuId: number,
    settings: { readonly shadowStacks: boolean },
  ): Result<VcpuMemory> {
    const memory = new VcpuMemory();
    const wishes: Readonly<Record<string, { pages: number; owner: Owner; align?: number }>> =
      settings.shadowStacks
        ? { ...WISHES, shadowStack: { pages: SHADOW_STACK_PAGES, owner: 'payload' } }
        : WISHES;
    for (const [what, wish] of Object.entries(wishes) as [PagesName, (typeof wishes)['vmcs']][]) {
      const got = kernel.allocate({ ...wish, label: `vCPU ${vcpuId} ${what}` });
      if (!got.ok) {
        memory.free(kernel);
        return got;
      }
      memory.#pages.set(what, { what, hpa: got.value, pages: wish.pages });
    }
    return { ok: true, value: memory };
  }

  /** Allocates the instance's pages, guards included; at one place for an image that cannot move. Errnos: ENOMEM. */
  allocateInstance(kernel: KvmKernel, vcpuId: number, wish: InstanceWish): Result<bigint> {
    const { pages } = wish;
    const got = kernel.allocate({ ...wish, label: `vCPU ${vcpuId} instance`, owner: 'payload' });
    if (got.ok) this.#pages.set('instance', { what: 'instance', hpa: got.value, pages });
    return got;
  }

  /** Puts another run of pages in the place of one, which is freed. */
  replace(kernel: KvmKernel, what: PagesName, hpa: bigint): void {
    const old = this.#pages.get(what)!;
    this.#pages.set(what, { ...old, hpa });
    kernel.free(old.hpa);
  }

  /** The pages of the instance. */
  get instance(): VcpuPages {
    return this.#pages.get('instance')!;
  }

  /** Makes other pages the instance; those it was stay allocated. */
  putInstance(run: VcpuPages): void {
    this.#pages.set('instance', run);
  }

  has(what: PagesName): boolean {
    return this.#pages.has(what);
  }

  at(what: PagesName): bigint {
    return this.#pages.get(what)!.hpa;
  }

  all(): readonly VcpuPages[] {
    return [...this.#pages.values()];
  }

  free(kernel: KvmKernel): void {
    for (const { hpa } of this.#pages.values()) kernel.free(hpa);
    this.#pages.clear();
  }

  /** kho_preserve_pages() on everything; what was done is undone when one fails. */
  preserve(kernel: KvmKernel): Result<void> {
    const done: VcpuPages[] = [];
    for (const run of this.#pages.values()) {
      const result = kernel.preserve(run.hpa, run.pages);
      if (!result.ok) {
        for (const { hpa, pages } of done) kernel.unpreserve(hpa, pages);
        return result;
      }
      done.push(run);
    }
    return DONE;
  }

  unpreserve(kernel: KvmKernel): void {
    for (const { hpa, pages } of this.#pages.values()) kernel.unpreserve(hpa, pages);
  }

  /** Writes the page list into a vCPU record. */
  write(bytes: PhysicalBytes, record: bigint): StructView {
    const view = new StructView(KVM_VCPU_SER, bytes, record);
    view.set('header.magic', KVM_VCPU_SER_MAGIC);
    view.set('header.version', KVM_SER_VERSION);
    view.set('header.size', KVM_VCPU_SER.sizeBytes);
    view.set('instance_base', this.at('instance'));
    view.set('instance_size', this.#pages.get('instance')!.pages * PAGE_SIZE);
    view.set('stack_base', this.at('stack'));
    view.set('stack_size', STACK_BYTES);
    view.set('config', this.at('config'));
    view.set('telemetry', this.at('telemetry'));
    view.set('soft_state', this.at('softState'));
    view.set('vmcs', this.at('vmcs'));
    view.set('vmxon', this.at('vmxon'));
    view.set('msr_bitmap', this.at('msrBitmap'));
    view.set('virtual_apic', this.at('virtualApic'));
    view.set('tables', this.at('tables'));
    view.set('shadow_stack', this.has('shadowStack') ? this.at('shadowStack') : 0n);
    return view;
  }

  /** What a record names, as it lies in preserved memory. */
  static read(record: StructView): VcpuMemory {
    const memory = new VcpuMemory();
    const fields: Readonly<Record<PagesName, string>> = {
      instance: 'instance_base',
      stack: 'stack_base',
      config: 'config',
      telemetry: 'telemetry',
      softState: 'soft_state',
      vmcs: 'vmcs',
      vmxon: 'vmxon',
      msrBitmap: 'msr_bitmap',
      virtualApic: 'virtual_apic',
      tables: 'tables',
      shadowStack: 'shadow_stack',
    };
    for (const [what, field] of Object.entries(fields) as [PagesName, string][]) {
      const hpa = record.get(field);
      if (what === 'shadowStack' && hpa === 0n) continue;
      memory.#pages.set(what, { what, hpa, pages: pagesOf(what, record) });
    }
    return memory;
  }

  /** kho_restore_pages() on everything that a record names. Errnos: those of the kernel. */
  static restore(kernel: KvmKernel, record: StructView): Result<VcpuMemory> {
    const memory = VcpuMemory.read(record);
    for (const { what, hpa, pages } of memory.all()) {
      const label = `vCPU ${record.number('vcpu_id')} ${what}`;
      const result = kernel.restore(hpa, pages, label);
      if (!result.ok) return result;
    }
    return { ok: true, value: memory };
  }
}

function pagesOf(what: PagesName, record: StructView): number {
  if (what === 'instance') return toIndex(record.get('instance_size')) / PAGE_SIZE;
  return what === 'shadowStack' ? SHADOW_STACK_PAGES : WISHES[what].pages;
}
