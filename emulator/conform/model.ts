/**
 * The first machine: this project's VMX models with the second machine's capabilities, without an engine.
 *
 * Invariant: its MSRs are the root-mode model's, rules of WRMSR and all, so that a list of MSRs is refused as there; nothing
 * but the VMX models decides an outcome.
 */
import { HarnessBug } from '../../abi/errors.js';
import { EFER, MSR } from '../../abi/msrs.js';
import { u64 } from '../../abi/uint.js';
import {
  REG,
  RFLAGS,
  RFLAGS_ARITHMETIC,
  RegisterFile,
  type RegisterName,
} from '../cpu/registers.js';
import { PhysicalMemory } from '../memory/physical-memory.js';
import type { VmxCapabilities } from '../vmx/capabilities.js';
import { EptTlb } from '../vmx/ept/tlb.js';
import { applyDescription, type VmcsDescription } from '../vmx/description.js';
import type { VmxPcpu } from '../vmx/ports.js';
import { IpiBus } from '../vmx/root/ipi-bus.js';
import { LocalApic } from '../vmx/root/local-apic.js';
import { MsrFile } from '../vmx/root/msr-file.js';
import { msrTable } from '../vmx/root/msr-table.js';
import { RootMsrs } from '../vmx/root/msrs.js';
import type { Vmcs } from '../vmx/vmcs.js';
import { VmcsStore } from '../vmx/vmcs-store.js';
import { execute } from '../vmx/vmx-instructions.js';
import { LAYOUT } from './layout.js';

/** Enough for the pages that descriptions name. */
const MODEL_MEMORY_BYTES = 0x4_0000;

/** A pCPU of the model. */
export interface ModelPcpu extends VmxPcpu {
  readonly msrs: RootMsrs;
  /** What RDTSC would answer. */
  tsc: number;
}

/** A processor's MSRs, whose homes are its registers, a local APIC alone on its bus, and a file of values. */
export function modelMsrs(
  capabilities: VmxCapabilities,
  registers: RegisterFile,
  now: () => number,
): { msrs: RootMsrs; apic: LocalApic } {
  const bus = new IpiBus();
  const none = (): void => undefined;
  const events = { onNmi: none, onInit: none, onStartup: none, onSmi: none, onEoi: none };
  const apic = new LocalApic({ id: 0, timerTicksPerCount: 1 }, now, bus, events);
  bus.attach(apic);
  return { msrs: new RootMsrs(new MsrFile(tableOf(capabilities)), registers, apic, now), apic };
}

const TABLES = new WeakMap<VmxCapabilities, ReturnType<typeof msrTable>>();

function tableOf(capabilities: VmxCapabilities): ReturnType<typeof msrTable> {
  const table = TABLES.get(capabilities) ?? msrTable(capabilities);
  TABLES.set(capabilities, table);
  return table;
}

/** Registers that hold what no host has until a VM exit loads them, so that one that it leaves out shows. */
// prettier-ignore
const LOADED_BY_EXIT = [
  'RIP', 'RSP', 'CR3', 'DR7', 'CS', 'SS', 'DS', 'ES', 'FS', 'GS', 'TR', 'LDTR', 'FS_BASE', 'GS_BASE', 'TR_BASE', 'TR_LIMIT',
  'GDTR_BASE', 'GDTR_LIMIT', 'IDTR_BASE', 'IDTR_LIMIT',
] as const satisfies readonly RegisterName[];
/** MSRs that every VM exit loads. */
const MSRS_LOADED_BY_EXIT = [
  MSR.IA32_SYSENTER_CS,
  MSR.IA32_SYSENTER_ESP,
  MSR.IA32_SYSENTER_EIP,
  MSR.IA32_DEBUGCTL,
] as const;
/** PE, ET, NE and PG, which VMX operation demands or nothing changes; the others are not as the host has them. */
const CR0_BEFORE = 0x8000_003dn;

/** A pCPU outside VMX operation, as the monitor's is before VMXON, with registers and MSRs of no host. */
export function modelPcpu(capabilities: VmxCapabilities): ModelPcpu {
  const memory = new PhysicalMemory(new ArrayBuffer(MODEL_MEMORY_BYTES));
  const registers = new RegisterFile();
  const now = (): number => pcpu.tsc;
  for (const name of LOADED_BY_EXIT) registers.set(name, u64(0x5000 + 8 * REG[name]));
  registers.set('CR0', CR0_BEFORE);
  registers.set('CR4', 0x0005_2660n);
  registers.set('EFER', EFER.LMA | EFER.LME | EFER.SCE | EFER.NXE);
  registers.set('RFLAGS', 2n);
  const { msrs } = modelMsrs(capabilities, registers, now);
  for (const index of MSRS_LOADED_BY_EXIT) msrs.load(index, 0x5_0000_5000n);
  for (const region of [LAYOUT.VMXON_REGION, LAYOUT.VMCS_REGION]) {
    memory.writeU32(region, capabilities.revision);
  }
  const pcpu: ModelPcpu = {
    id: 0,
    apicId: 0,
    memory,
    registers,
    msrs,
    blocking: { sti: false, movSs: false, nmi: false },
    vmx: { vmxonPointer: null, current: null, mode: 'off' },
    capabilities,
    vmcsStore: new VmcsStore(memory),
    eptTlb: new EptTlb(),
    tsc: 1000,
    now,
  };
  return pcpu;
}

/** In VMX root operation with a fresh current VMCS as described. */
export function withVmcs(pcpu: ModelPcpu, description: VmcsDescription): Vmcs {
  execute(pcpu, { name: 'VMXON', pointer: LAYOUT.VMXON_REGION });
  execute(pcpu, { name: 'VMCLEAR', pointer: LAYOUT.VMCS_REGION });
  execute(pcpu, { name: 'VMPTRLD', pointer: LAYOUT.VMCS_REGION });
  const vmcs = pcpu.vmx.current;
  if (vmcs === null) throw new HarnessBug('the model refused VMXON or VMPTRLD');
  applyDescription(vmcs, description);
  pcpu.registers.set('RFLAGS', RFLAGS.FIXED | RFLAGS_ARITHMETIC);
  return vmcs;
}
