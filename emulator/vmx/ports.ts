/**
 * What the VMX models need of a pCPU and what the host models see of one: state as plain data and a few verbs.
 *
 * Source: SDM, "Introduction to Virtual Machine Extensions", "Advanced Programmable Interrupt Controller (APIC)".
 * Invariant: nothing here knows Unicorn; a guest's register state outside the general registers lives in the VMCS
 * guest-state area, so VM entry loads and VM exit saves nothing else.
 */
import type { PhysicalBytes } from '../memory/physical-memory.js';
import type { RegisterFile } from '../cpu/registers.js';
import type { VmxCapabilities } from './capabilities.js';
import type { EptTlb } from './ept/tlb.js';
import type { VmcsStore } from './vmcs-store.js';
import type { Vmcs } from './vmcs.js';

/** An MSR access that hardware refuses with #GP(0) is `undefined` on read and `false` on write. */
export interface MsrPort {
  read(index: number): bigint | undefined;
  write(index: number, value: bigint): boolean;
  /** Counts alterations of MSRs that are only values; absent where nobody counts. */
  readonly changes?: number;
}

/** Event blocking of the logical processor in VMX root operation (SDM, "Masking NMIs", "Interrupt shadow"). */
export interface Blocking {
  sti: boolean;
  movSs: boolean;
  nmi: boolean;
}

/**
 * VMX operation of one logical processor.
 *
 * `mode` is `aborted` after a VMX abort: the processor is in a shutdown that only RESET ends.
 */
export interface VmxOperation {
  /** Physical address of the VMXON region, null outside VMX operation. */
  vmxonPointer: bigint | null;
  /** The current VMCS, null for the invalid pointer. */
  current: Vmcs | null;
  mode: 'off' | 'root' | 'non-root' | 'aborted';
}

/** One logical processor as emulator/vmx sees it. */
export interface VmxPcpu {
  readonly id: number;
  readonly apicId: number;
  readonly memory: PhysicalBytes;
  readonly registers: RegisterFile;
  readonly msrs: MsrPort;
  readonly blocking: Blocking;
  readonly vmx: VmxOperation;
  /** What this processor's VMX offers; the same object on every pCPU of a machine. */
  readonly capabilities: VmxCapabilities;
  /** Which VMCS is active where; the same object on every pCPU of a machine. */
  readonly vmcsStore: VmcsStore;
  /** Guest-physical mappings that it has cached. */
  readonly eptTlb: EptTlb;
  /** The TSC now, in ticks. */
  now(): number;
}
