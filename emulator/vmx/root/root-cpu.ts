/**
 * What a model of an instruction sees of the pCPU it runs on, and the ports to what lies outside emulator/vmx/root.
 *
 * Invariant: a model keeps no state of its own; everything it changes is reachable from here.
 */
import type { Random } from '../../clock/random.js';
import type { Instruction } from '../../cpu/decode.js';
import type { CetState, EngineCounters, EngineStop } from '../../cpu/port.js';
import type { RegisterFile } from '../../cpu/registers.js';
import type { VmxPcpu } from '../ports.js';
import type { VmxInstruction, VmxResult } from '../vmx-instructions.js';
import type { Activity, Finding } from '../stop-reason.js';
import type { AddressSpacePort, LinearMemory } from './linear-memory.js';
import type { LocalApic } from './local-apic.js';
import type { Outcome } from './outcome.js';
import type { RootMsrs } from './msrs.js';

/** A CPU engine as root operation drives it. */
export interface EnginePort {
  readonly registers: RegisterFile;
  readonly counters: EngineCounters;
  /** The TSC is this plus `counters.instructions`, to which models add theirs; the in-line RDTSC uses the same sum. */
  tscBase: number;
  /** What of control-flow enforcement the next runs hold near branches to; null for nothing. */
  setCet(cet: CetState | null): void;
  /** Whether the last run ended between an indirect branch and its ENDBR64. */
  readonly isWaitingForEndbranch: boolean;
  /** Executes at most `limit` instructions from the register file. */
  run(limit: number): EngineStop;
  /** Executes exactly the instruction at RIP natively, though it is a site; `limit` when it completed. */
  stepOverNative(): EngineStop;
  /** XMM0 to XMM15, 16 bytes each. */
  vectors(): Uint8Array;
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

/** The model of the VMX instructions; it writes RFLAGS itself and leaves RIP alone. */
export interface VmxInstructionPort {
  execute(cpu: VmxPcpu, instruction: VmxInstruction): VmxResult;
}

/** Everything that a pCPU in root operation needs from outside. */
export interface RootPorts {
  readonly addressSpace: AddressSpacePort;
  readonly cpuid: CpuidPort;
  readonly portIo: PortIoPort;
  readonly vmx: VmxInstructionPort;
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
  /** Tells what a VMX instruction that was not answered in line came to. */
  onVmxInstruction(instruction: VmxInstruction, result: VmxResult): void;
  /** Reports a broken invariant; `stop` ends the run at the instruction. */
  report(finding: Finding): 'continue' | 'stop';
}

/** The model of one instruction. */
export type Model = (cpu: RootCpu, instruction: Instruction) => Outcome;

/** Models by the SDM's mnemonic. */
export type ModelTable = Readonly<Record<string, Model>>;
