/**
 * What KVM needs of its kernel and of the cores it runs on.
 *
 * Invariant: KVM reaches a CPU through here and through emulator/vmx only; it never sees an engine.
 */
import type { PhysicalMemory, Owner } from '../../memory/physical-memory.js';
import type { VmxPcpu } from '../../vmx/ports.js';
import type { VmxCapabilities } from '../../vmx/capabilities.js';
import type { Result } from '../result.js';

/** Contiguous pages for KVM. */
export interface PageWish {
  readonly pages: number;
  readonly label: string;
  readonly owner?: Owner;
  /** In pages, a power of two. */
  readonly align?: number;
  /** The first byte, where nothing else will do. */
  readonly at?: bigint;
}

/** The kernel around KVM. */
export interface KvmKernel {
  readonly memory: PhysicalMemory;
  /** Zeroed pages. Errnos: ENOMEM. */
  allocate(wish: PageWish): Result<bigint>;
  free(hpa: bigint): void;
  /** kvm_vmexit: where a Caretaker routes an exit to. */
  readonly routingHandler: bigint;
  /** Kernel text, to be mapped executable. */
  readonly text: { readonly base: bigint; readonly sizeBytes: number };
  /** kho_preserve_pages() and kho_unpreserve_pages(). */
  preserve(hpa: bigint, pages: number): Result<unknown>;
  unpreserve(hpa: bigint, pages: number): void;
  /** kho_restore_pages(). */
  restore(hpa: bigint, pages: number, label: string): Result<unknown>;
  /** CLOCK_MONOTONIC in ns at a TSC. */
  monotonicNs(tsc: number): bigint;
  /** CLOCK_REALTIME in ns at a TSC. */
  realtimeNs(tsc: number): bigint;
  /** Of the TSC, as this kernel has calibrated it. */
  readonly tscFrequencyHz: number;
}

/** How a call into a payload ended. */
export type CallResult =
  | { readonly kind: 'returned'; readonly rax: bigint }
  /** It faulted, left its text or did not come to an end. */
  | { readonly kind: 'failed'; readonly why: string };

/** A core, as KVM drives it in root operation. */
export interface KvmCpu extends VmxPcpu {
  /** Calls a SysV function of a payload and waits for its return; IF = 0, the host's IDT. */
  call(entry: bigint, rdi: bigint, stackTop: bigint, cr3: bigint): CallResult;
}

/** The cores, and what KVM wants done that takes time. */
export interface KvmMachine {
  readonly capabilities: VmxCapabilities;
  readonly tscFrequencyHz: number;
  /** The pCPUs below it are the host's own core. */
  readonly firstVcpuCpu: number;
  cpu(id: number): KvmCpu;
  /** Host time, in TSC ticks. */
  now(): number;
  /** kvm_vcpu_kick() and wait: returns when the vCPU is out of the guest, in this KVM. Errnos: ETIMEDOUT. */
  stopVcpu(vcpuId: number): Result<void>;
  /** Lets the cores run until something holds; false when it does not within the time a vCPU may take to stop. */
  waitFor(holds: () => boolean): boolean;
  /** kvm_vcpu_kick(): an NMI or the notification vector makes the vCPU leave the guest. */
  kick(vcpuId: number): void;
  /** INIT and SIPI to a core that this kernel wants back from what runs there. Errnos: ETIMEDOUT it blocks INIT. */
  reclaimCore(cpu: number): Result<void>;
  /** KVM_ATTACHED was written for a vCPU that runs alone: it is kicked, so that it comes to this KVM. */
  vcpuAdopted(vcpuId: number): void;
  /** The vCPU's first exit in this kernel is answered: its VMCS is about to be replaced by one of the kernel's own. */
  vcpuTakesOver(vcpuId: number): void;
  /** It has been replaced. */
  vcpuTookOver(vcpuId: number): void;
  /** A vCPU has ended in a kernel that did not adopt it; its core is back, and its pages are about to be freed. */
  vcpuTerminated(vcpuId: number): void;
  /** A vCPU was made ready and goes on, on its core, at the payload's run entry. */
  vcpuStarted(vcpuId: number): void;
  /** Page tables were changed or built: engines must look again. */
  tablesChanged(): void;
  /** An instance was placed, or is about to be freed. */
  codePlaced(base: bigint, sizeBytes: number): void;
}
