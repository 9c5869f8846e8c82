/**
 * A pCPU without an engine for tests of emulator/vmx: registers, MSRs in a map, memory and a settable TSC.
 *
 * Invariant: it models nothing; an MSR that nobody set reads 0, and one in `refusedMsrs` raises #GP.
 */
import { EFER, MSR } from '../../abi/msrs.js';
import { PhysicalMemory } from '../../emulator/memory/physical-memory.js';
import { RegisterFile } from '../../emulator/cpu/registers.js';
import { EptTlb } from '../../emulator/vmx/ept/tlb.js';
import { DEFAULT_CAPABILITIES } from '../../emulator/vmx/capabilities.js';
import {
  applyDescription,
  validVmcs,
  type VmcsDescription,
} from '../../emulator/vmx/description.js';
import type { VmxPcpu } from '../../emulator/vmx/ports.js';
import { Vmcs } from '../../emulator/vmx/vmcs.js';
import { VmcsStore } from '../../emulator/vmx/vmcs-store.js';
import { execute } from '../../emulator/vmx/vmx-instructions.js';

/** A pCPU without an engine, with everything that a test may want to look at. */
export interface FakePcpu extends VmxPcpu {
  readonly memory: PhysicalMemory;
  readonly msrValues: Map<number, bigint>;
  /** MSRs that refuse RDMSR and WRMSR. */
  readonly refusedMsrs: Set<number>;
  tsc: number;
}

export const VMXON_REGION = 0x2000n;
export const VMCS_REGION = 0x3000n;
export const OTHER_REGION = 0x4000n;

export function fakePcpu(
  machine: { memory: PhysicalMemory; vmcsStore: VmcsStore } = fakeMachine(),
  id = 0,
): FakePcpu {
  const msrValues = new Map<number, bigint>([[MSR.IA32_FEATURE_CONTROL, 5n]]);
  const refusedMsrs = new Set<number>();
  const registers = new RegisterFile();
  registers.set('CR0', 0x8005_0033n);
  registers.set('CR4', 0x0005_26e0n);
  registers.set('EFER', EFER.LMA | EFER.LME | EFER.SCE | EFER.NXE);
  registers.set('CS', 0x10n);
  registers.set('RFLAGS', 2n);
  return {
    id,
    apicId: id,
    memory: machine.memory,
    registers,
    msrs: {
      read: (index) => (refusedMsrs.has(index) ? undefined : (msrValues.get(index) ?? 0n)),
      write: (index, value) => {
        if (refusedMsrs.has(index)) return false;
        msrValues.set(index, value);
        return true;
      },
    },
    blocking: { sti: false, movSs: false, nmi: false },
    vmx: { vmxonPointer: null, current: null, mode: 'off' },
    capabilities: DEFAULT_CAPABILITIES,
    vmcsStore: machine.vmcsStore,
    eptTlb: new EptTlb(),
    msrValues,
    refusedMsrs,
    tsc: 1_000_000,
    now() {
      return this.tsc;
    },
  };
}

export function fakeMachine(): { memory: PhysicalMemory; vmcsStore: VmcsStore } {
  const memory = new PhysicalMemory(new ArrayBuffer(0x4_0000));
  for (const region of [VMXON_REGION, VMCS_REGION, OTHER_REGION]) {
    memory.writeU32(region, DEFAULT_CAPABILITIES.revision);
  }
  return { memory, vmcsStore: new VmcsStore(memory) };
}

/** A VMCS that is active nowhere, for checks alone. */
export function looseVmcs(description: VmcsDescription = validVmcs()): Vmcs {
  const vmcs = new Vmcs(VMCS_REGION, DEFAULT_CAPABILITIES.revision);
  applyDescription(vmcs, description);
  return vmcs;
}

/** In VMX root operation with a current VMCS as described. */
export function inRoot(pcpu: FakePcpu, description: VmcsDescription = validVmcs()): Vmcs {
  execute(pcpu, { name: 'VMXON', pointer: VMXON_REGION });
  execute(pcpu, { name: 'VMCLEAR', pointer: VMCS_REGION });
  execute(pcpu, { name: 'VMPTRLD', pointer: VMCS_REGION });
  const vmcs = pcpu.vmx.current;
  if (vmcs === null) throw new Error('no current VMCS');
  applyDescription(vmcs, description);
  return vmcs;
}

/** In VMX non-root operation after a VMLAUNCH. */
export function inGuest(pcpu: FakePcpu, description: VmcsDescription = validVmcs()): Vmcs {
  const vmcs = inRoot(pcpu, description);
  const result = execute(pcpu, { name: 'VMLAUNCH' });
  if (result.kind !== 'entry' || result.entry.kind !== 'entered') {
    throw new Error(`VMLAUNCH: ${JSON.stringify(result)}`);
  }
  return vmcs;
}
