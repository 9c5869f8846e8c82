/**
 * What a model of an instruction sees of the pCPU it runs on, and the ports to what lies outside emulator/vmx/root.
 *
 * Invariant: a model keeps no state of its own; everything it changes is reachable from here.
 */
import type { Random } from '../../clock/random.js';
import type { Instruction } from '../../cpu/decode.js';
import type { EngineCounters, EngineStop } from '../../cpu/port.js';
import type { RegisterFile } from '../../cpu/registers.js';
import type { VmxPcpu } from '../ports.js';
import type { Activity, Finding } from '../stop-reason.js';
import type { DeliveryCpu } from './idt-delivery.js';
import type { AddressSpacePort, LinearMemory } from './linear-memory.js';
import type { LocalApic } from './local-apic.js';
import type { Failure, Outcome } from './outcome.js';
import type { RootMsrs } from './msrs.js';

/** A CPU engine as root operation drives it. */
export interface EnginePort {
  readonly registers: RegisterFile;
  readonly counters: EngineCounters;
  /** The TSC is this plus `counters.instructions`; the engine's in-line RDTSC uses the same sum. */
  tscBase: number;
  /** Executes at most `limit` instructions from the register file. */
  run(limit: number): EngineStop;
  /** Executes exactly the instruction at RIP natively, though it is a site: `limit` means done, null that it cannot. */
  stepNative(): EngineStop | null;
}

/** What CPUID returns, each 32 bits. */
export interface CpuidResult {
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}

/** The CPUID leaves of a pCPU; the dynamic bits are computed from its registers. */
export interface CpuidPort {
  execute(cpu: VmxPcpu, leaf: number, subleaf: number): CpuidResult;
}

/** The I/O ports of the machine. */
export interface PortIoPort {
  /** Undefined when nothing models the port. */
  read(port: number, sizeBytes: number): number | undefined;
  /** False when nothing models the port. */
  write(port: number, value: number, sizeBytes: number): boolean;
}

// prettier-ignore
/** The VMX instructions that are delegated; VMLAUNCH and VMRESUME stop the run instead. */
export const VMX_INSTRUCTIONS = [
  'VMXON', 'VMXOFF', 'VMCLEAR', 'VMPTRLD', 'VMPTRST', 'VMREAD', 'VMWRITE', 'INVEPT', 'INVVPID', 'VMCALL', 'VMFUNC',
] as const;

/** The name of a delegated VMX instruction. */
export type VmxInstructionName = (typeof VMX_INSTRUCTIONS)[number];

/**
 * Operand values: VMREAD (encoding), VMWRITE (encoding, value), VMXON, VMCLEAR and VMPTRLD (pointer), INVEPT and
 * INVVPID (type, low and high half of the descriptor); the others have none.
 */
export type VmxOperands = readonly bigint[];

/** `value` is what VMREAD and VMPTRST store; null when the instruction stores nothing, as after a VMfail. */
export type VmxInstructionResult =
  { readonly kind: 'done'; readonly value: bigint | null } | Failure;

/** The model of the VMX instructions; it writes RFLAGS itself and leaves RIP alone. */
export interface VmxInstructionPort {
  execute(cpu: VmxPcpu, name: VmxInstructionName, operands: VmxOperands): VmxInstructionResult;
}

/** The seam for shadow stacks: called where hardware pushes and pops CS, LIP and SSP; null means all is well. */
export interface ShadowStackPort {
  onDelivery(cpu: DeliveryCpu, ist: number): Failure | null;
  onInterruptReturn(cpu: RootCpu): Failure | null;
  onFarReturn(cpu: RootCpu): Failure | null;
}

/** Everything that a pCPU in root operation needs from outside. */
export interface RootPorts {
  readonly addressSpace: AddressSpacePort;
  readonly cpuid: CpuidPort;
  readonly portIo: PortIoPort;
  readonly vmx: VmxInstructionPort;
  readonly shadowStack: ShadowStackPort;
}

/** What the processor model supports, VMX and the bits that it fixes apart. */
export interface RootFeatures {
  /** Bits of XCR0 that may be set. */
  readonly xcr0: bigint;
  /** Whether an NMI waits for the end of an STI shadow too; processors differ. */
  readonly isNmiBlockedBySti: boolean;
}

/** A logical processor in root operation, as the models of its instructions see it. */
export interface RootCpu extends VmxPcpu {
  readonly engine: EnginePort;
  readonly linear: LinearMemory;
  readonly msrs: RootMsrs;
  readonly apic: LocalApic;
  readonly random: Random;
  readonly ports: RootPorts;
  readonly features: RootFeatures;
  activity: Activity;
  /** Reports a broken invariant; `stop` ends the run at the instruction. */
  report(finding: Finding): 'continue' | 'stop';
}

/** The model of one instruction. */
export type Model = (cpu: RootCpu, instruction: Instruction) => Outcome;

/** Models by the SDM's mnemonic. */
export type ModelTable = Readonly<Record<string, Model>>;
