/**
 * The first machine: this project's VMX models with the second machine's capabilities, without an engine.
 *
 * Invariant: every MSR that is not named keeps what was written to it, so that an MSR list can be loaded; nothing but the
 * VMX models decides an outcome.
 */
import { HarnessBug } from '../../abi/errors.js';
import { EFER, MSR } from '../../abi/msrs.js';
import { RegisterFile } from '../cpu/registers.js';
import { PhysicalMemory } from '../memory/physical-memory.js';
import type { VmxCapabilities } from '../vmx/capabilities.js';
import { EptTlb } from '../vmx/ept/tlb.js';
import { applyDescription, type VmcsDescription } from '../vmx/description.js';
import type { VmxPcpu } from '../vmx/ports.js';
import type { Vmcs } from '../vmx/vmcs.js';
import { VmcsStore } from '../vmx/vmcs-store.js';
import { execute } from '../vmx/vmx-instructions.js';
import { LAYOUT } from './layout.js';

/** Enough for the pages that descriptions name. */
const MODEL_MEMORY_BYTES = 0x4_0000;

/** A pCPU of the model, and the MSR values that it holds. */
export interface ModelPcpu extends VmxPcpu {
  readonly msrValues: Map<number, bigint>;
}

/** A pCPU outside VMX operation, as the monitor's is before VMXON. */
export function modelPcpu(capabilities: VmxCapabilities): ModelPcpu {
  const memory = new PhysicalMemory(new ArrayBuffer(MODEL_MEMORY_BYTES));
  const msrValues = new Map<number, bigint>([[MSR.IA32_FEATURE_CONTROL, 5n]]);
  const registers = new RegisterFile();
  registers.set('CR0', 0x8005_0033n);
  registers.set('CR4', 0x0005_2660n);
  registers.set('EFER', EFER.LMA | EFER.LME | EFER.SCE | EFER.NXE);
  registers.set('CS', 0x10n);
  registers.set('RFLAGS', 2n);
  for (const region of [LAYOUT.VMXON_REGION, LAYOUT.VMCS_REGION]) {
    memory.writeU32(region, capabilities.revision);
  }
  return {
    id: 0,
    apicId: 0,
    memory,
    registers,
    msrs: {
      read: (index) => msrValues.get(index) ?? 0n,
      write: (index, value) => {
        msrValues.set(index, value);
        return true;
      },
    },
    blocking: { sti: false, movSs: false, nmi: false },
    vmx: { vmxonPointer: null, current: null, mode: 'off' },
    capabilities,
    vmcsStore: new VmcsStore(memory),
    eptTlb: new EptTlb(),
    msrValues,
    now: () => 0,
  };
}

/** In VMX root operation with a fresh current VMCS as described. */
export function withVmcs(pcpu: ModelPcpu, description: VmcsDescription): Vmcs {
  execute(pcpu, { name: 'VMXON', pointer: LAYOUT.VMXON_REGION });
  execute(pcpu, { name: 'VMCLEAR', pointer: LAYOUT.VMCS_REGION });
  execute(pcpu, { name: 'VMPTRLD', pointer: LAYOUT.VMCS_REGION });
  const vmcs = pcpu.vmx.current;
  if (vmcs === null) throw new HarnessBug('the model refused VMXON or VMPTRLD');
  applyDescription(vmcs, description);
  return vmcs;
}
