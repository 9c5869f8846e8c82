/**
 * The pCPUs of a machine, each with its engine, its address spaces and its root-mode models, wired to the machine.
 *
 * Source: DESIGN ("One physical memory, one engine per pCPU").
 * Invariant: a core comes up as a Linux host leaves it: 64-bit mode, paging, x2APIC on, VMX allowed and off.
 */
import { MSR } from '../../abi/msrs.js';
import { slotByEncoding } from '../../abi/vmcs-fields.js';
import { X2APIC } from '../../abi/x2apic.js';
import { Engine } from '../cpu/engine.js';
import type { EngineMemory } from '../cpu/engine-memory.js';
import { cpuidLeaves } from '../host/kvm/shared-config.js';
import { NO_PCPU_EVENTS, Pcpu, type PcpuEvents, type RootFeatures } from '../vmx/pcpu.js';
import { execute } from '../vmx/vmx-instructions.js';
import type { IpiBus } from '../vmx/root/ipi-bus.js';
import { CoreAddressSpaces } from './core.js';
import type { Machine } from './machine.js';

/** One pCPU. */
export interface Core {
  readonly id: number;
  readonly engine: Engine;
  readonly pcpu: Pcpu;
  readonly spaces: CoreAddressSpaces;
  /** Kernel addresses at which a call into a payload ends. */
  readonly returnAddresses: Set<bigint>;
  /** The CCB that the engine watches, 0 for none. */
  watched: bigint;
  /** The kernel is calling a payload: what happens meanwhile happens to the kernel, not to a vCPU. */
  isCalling: boolean;
}

/** What makes a core. */
export interface CoreParts {
  readonly id: number;
  readonly machine: Machine;
  readonly engineMemory: EngineMemory;
  readonly bus: IpiBus;
  readonly seed: number;
  readonly events: Partial<PcpuEvents>;
}

const FEATURES: RootFeatures = {
  xcr0: 0x2e7n,
  isNmiBlockedBySti: false,
};

/** IA32_FEATURE_CONTROL: locked, VMX outside SMX allowed. */
const VMX_ALLOWED = 5n;
const CR0_WP = 1n << 16n;
/** Spurious vector 0xff, APIC software-enabled. */
const APIC_ON = 0x1ffn;

/** A core in the state in which Linux runs. */
export function makeCore({ id, machine, engineMemory, bus, seed, events }: CoreParts): Core {
  const engine = new Engine(engineMemory);
  engine.setSlotTable(slotByEncoding);
  const returnAddresses = new Set<bigint>();
  const stops = (): Iterable<bigint> => [...returnAddresses, ...pcpu.routingAddresses];
  const spaces = new CoreAddressSpaces(
    machine.memory,
    engine,
    (cr3) => machine.isIsolatedCr3(cr3),
    stops,
    {
      activated: (cr3) => machine.tablesLoaded(id, cr3),
      isWriteProtected: (): boolean => (engine.registers.get('CR0') & CR0_WP) !== 0n,
    },
  );
  const pcpu = new Pcpu(
    {
      id,
      apicId: id,
      seed: (seed ^ (id * 0x9e37)) >>> 0,
      features: FEATURES,
      timerTicksPerCount: 2,
      capabilities: machine.capabilities,
    },
    engine,
    {
      memory: machine.memory,
      ipi: bus,
      vmcsStore: machine.vmcsStore,
      addressSpace: spaces,
      cpuid: { execute: (_cpu, leaf, subleaf) => hostCpuid(leaf, subleaf, id) },
      portIo: { read: () => undefined, write: () => false },
      vmx: {
        execute: (cpu, instruction) => {
          const before = cpu.vmx.current;
          const result = execute(cpu, instruction);
          if (cpu.vmx.current !== before) machine.rebind(id);
          return result;
        },
      },
    },
    { ...NO_PCPU_EVENTS, ...events },
  );
  bus.attach(pcpu.apic);
  asLinuxLeavesIt(pcpu);
  return { id, engine, pcpu, spaces, returnAddresses, watched: 0n, isCalling: false };
}

function asLinuxLeavesIt(pcpu: Pcpu): void {
  const { registers } = pcpu;
  registers.set('CR0', 0x8005_0033n);
  registers.set('CR4', 0x0005_26e0n);
  registers.set('EFER', 0xd01n);
  registers.set('CS', 0x10n);
  registers.set('SS', 0x18n);
  registers.set('TR', 0x40n);
  registers.set('RFLAGS', 2n);
  registers.set('DR7', 0x400n);
  registers.set('XCR0', 0x2e7n);
  pcpu.msrs.file.load(MSR.IA32_FEATURE_CONTROL, VMX_ALLOWED);
  pcpu.apic.write(X2APIC.SIVR, APIC_ON);
}

/**
 * INIT and SIPI, and the kernel's own start of a secondary core after them; false while the core blocks INIT, as it does in
 * VMX root operation. SDM, "Processor State After Initialization": vector registers and most MSRs stay.
 */
export function initAndStart(pcpu: Pcpu): boolean {
  pcpu.pendingInit = true;
  pcpu.settle();
  if (pcpu.activity !== 'wait-for-sipi') {
    pcpu.pendingInit = false;
    return false;
  }
  for (const name of CLEARED_BY_INIT) pcpu.registers.set(name, 0n);
  pcpu.activity = 'active';
  pcpu.blocking.nmi = false;
  asLinuxLeavesIt(pcpu);
  return true;
}

const CLEARED_BY_INIT = ['CR2', 'DR0', 'DR1', 'DR2', 'DR3'] as const;

function hostCpuid(leaf: number, subleaf: number, apicId: number) {
  const found = cpuidLeaves(apicId).find(
    (l) => l.leaf === leaf && (l.subleaf === subleaf || (l.flags & 1) === 0),
  );
  return found ?? { eax: 0, ebx: 0, ecx: 0, edx: 0 };
}
