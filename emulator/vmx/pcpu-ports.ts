/**
 * What a pCPU is made of and connected to: configuration, ports, and what it tells and asks the machine.
 *
 * Invariant: a pCPU reaches nothing outside emulator/vmx but through these, so a test or a scenario replaces any of them.
 */
import type { PhysicalBytes } from '../memory/physical-memory.js';
import type { VmxCapabilities } from './capabilities.js';
import type { DeliveryEvent, DeliveryResult } from './root/idt-delivery.js';
import type { IpiPort } from './root/ipi-bus.js';
import type { LinearMemoryEvents } from './root/linear-memory.js';
import type { Fault } from './root/outcome.js';
import type { RootFeatures, RootPorts } from './root/root-cpu.js';
import type { Finding } from './stop-reason.js';
import type { VmcsStore } from './vmcs-store.js';
import type { VmxInstruction, VmxResult } from './vmx-instructions.js';

export type {
  CpuidPort,
  CpuidResult,
  EnginePort,
  PortIoPort,
  RootFeatures,
  RootPorts,
  VmxInstructionPort,
} from './root/root-cpu.js';

/** Identity and features of a pCPU. */
export interface PcpuConfig {
  readonly id: number;
  readonly apicId: number;
  /** Seed of RDRAND and RDSEED. */
  readonly seed: number;
  readonly features: RootFeatures;
  /** TSC ticks of one undivided count of the APIC timer. */
  readonly timerTicksPerCount: number;
  readonly capabilities: VmxCapabilities;
}

/** What a pCPU is connected to. */
export interface PcpuPorts extends RootPorts {
  readonly memory: PhysicalBytes;
  readonly ipi: IpiPort;
  readonly vmcsStore: VmcsStore;
}

/** What a pCPU tells and asks the machine. */
export interface PcpuEvents extends LinearMemoryEvents {
  /** A PAUSE is about to execute; `stop` ends the run past it as `spinning`. Time may be moved in here. */
  onPause(site: bigint): 'continue' | 'stop';
  /** An exception is about to go through the IDT; `stop` ends the run before it does. */
  onException(exception: Fault, address: bigint): 'deliver' | 'stop';
  /** An event went through the IDT, or did not make it. */
  onDelivery(event: DeliveryEvent, interrupted: bigint, result: DeliveryResult): void;
  onFinding(finding: Finding): 'continue' | 'stop';
  /** A VMX instruction that was not answered in line: a VMfail, a poisoned field, a write of the VMCS. */
  onVmxInstruction(instruction: VmxInstruction, result: VmxResult): void;
  /** A physical EOI; `vector` is null when nothing was in service. */
  onEoi(vector: number | null, isLevel: boolean): void;
  /** An SIPI arrived while this pCPU waits for one. */
  onStartup(vector: number): void;
}

/** Events that do nothing and let everything go on. */
export const NO_PCPU_EVENTS: PcpuEvents = {
  onAccess: () => undefined,
  onImplicitAccess: () => undefined,
  onPause: () => 'continue',
  onException: () => 'deliver',
  onDelivery: () => undefined,
  onFinding: () => 'continue',
  onVmxInstruction: () => undefined,
  onEoi: () => undefined,
  onStartup: () => undefined,
};
