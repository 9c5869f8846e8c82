/**
 * The two sets of page tables around a Caretaker: its own, isolated ones, and the kernel's, in which it is mapped too.
 *
 * Source: the RFC, "Hardware Interposition"; CONTRACT ("CR3 policies", "CCB").
 * Invariant: the payload's tables map its instance, its stack, its configuration, telemetry, soft state and virtual-APIC page and the
 * soft state of the other vCPUs, nothing else; KVM's page of the CCB is read-only in them.
 */
import { CARETAKER_KVM_PAGE } from '../../../abi/ccb.js';
import { toIndex } from '../../../abi/uint.js';
import { buildIdentityTables, type IdentityRange } from '../../memory/page-tables.js';
import { PAGE_SIZE } from '../../memory/physical-memory.js';
import type { KvmKernel } from './ports.js';
import { shadowStackRanges } from './shadow-stacks.js';
import { STACK_BYTES, type VcpuMemory } from './vcpu-memory.js';

const data = (base: bigint, sizeBytes: number, writable = true): IdentityRange => ({
  base,
  sizeBytes,
  writable,
  executable: false,
});

/** The ranges of an instance with `page` made read-only. */
function withReadOnlyPage(
  ranges: readonly IdentityRange[],
  page: bigint,
): readonly IdentityRange[] {
  const size = BigInt(PAGE_SIZE);
  return ranges.flatMap((range) => {
    const end = range.base + BigInt(range.sizeBytes);
    if (page < range.base || page >= end) return [range];
    const part = (from: bigint, to: bigint, writable: boolean): IdentityRange[] =>
      from < to
        ? [
            {
              ...range,
              base: from,
              sizeBytes: Number.parseInt((to - from).toString(), 10),
              writable,
            },
          ]
        : [];
    return [
      ...part(range.base, page, range.writable),
      ...part(page, page + size, false),
      ...part(page + size, end, range.writable),
    ];
  });
}

/** What both sets of tables map of a vCPU beside its instance. */
function vcpuRanges(memory: VcpuMemory): readonly IdentityRange[] {
  return [
    data(memory.at('stack'), STACK_BYTES),
    data(memory.at('config'), 2 * PAGE_SIZE, false),
    data(memory.at('telemetry'), 2 * PAGE_SIZE),
    data(memory.at('softState'), PAGE_SIZE),
    data(memory.at('virtualApic'), PAGE_SIZE),
    ...(memory.has('shadowStack') ? shadowStackRanges(memory.at('shadowStack')) : []),
  ];
}

/** Builds the payload's own tables in the vCPU's table pages; gives back their root. */
export function buildIsolatedTables(
  kernel: KvmKernel,
  instance: { readonly ranges: readonly IdentityRange[]; readonly ccb: bigint },
  memory: VcpuMemory,
  peers: readonly VcpuMemory[],
): bigint {
  const kvmPage = instance.ccb + BigInt(CARETAKER_KVM_PAGE);
  const ranges = [
    ...withReadOnlyPage(instance.ranges, kvmPage),
    ...vcpuRanges(memory),
    ...peers.filter((peer) => peer !== memory).map((peer) => data(peer.at('softState'), PAGE_SIZE)),
  ];
  let next = memory.at('tables');
  return buildIdentityTables(kernel.memory, ranges, () => {
    const page = next;
    next += BigInt(PAGE_SIZE);
    return page;
  });
}

/** One vCPU as the kernel's tables map it. */
export interface MappedVcpu {
  readonly ranges: readonly IdentityRange[];
  readonly memory: VcpuMemory;
  /** Of KVM's own thread for this vCPU. */
  readonly kernelStack: bigint;
}

/** Pages that the kernel's tables for a VM may take. */
export const KERNEL_TABLE_PAGES = 192;
/** Bytes of KVM's stack for one vCPU. */
export const KERNEL_STACK_BYTES = 2 * PAGE_SIZE;

/**
 * The kernel's tables: its text, KVM's stacks and every instance of the VM at its own address; all the rest of memory too
 * where they have the direct map.
 */
export function buildKernelTables(
  kernel: KvmKernel,
  pool: bigint,
  vcpus: readonly MappedVcpu[],
  hasDirectMap: boolean,
): bigint {
  const own = [
    { base: kernel.text.base, sizeBytes: kernel.text.sizeBytes, writable: false, executable: true },
    ...vcpus.flatMap((vcpu) => [
      ...vcpu.ranges,
      ...vcpuRanges(vcpu.memory),
      data(vcpu.kernelStack, KERNEL_STACK_BYTES),
    ]),
  ];
  const ranges = hasDirectMap ? [...own, ...gaps(own, kernel.memory.sizeBytes)] : own;
  let next = pool;
  return buildIdentityTables(kernel.memory, ranges, () => {
    const page = next;
    next += BigInt(PAGE_SIZE);
    return page;
  });
}

/** What lies between ranges, writable. */
function gaps(ranges: readonly IdentityRange[], sizeBytes: number): readonly IdentityRange[] {
  const found: IdentityRange[] = [];
  let end = 0n;
  const upTo = (base: bigint): void => {
    if (base > end) found.push(data(end, toIndex(base - end)));
  };
  for (const range of [...ranges].sort((a, b) => (a.base < b.base ? -1 : 1))) {
    upTo(range.base);
    end = range.base + BigInt(range.sizeBytes);
  }
  upTo(BigInt(sizeBytes));
  return found;
}
