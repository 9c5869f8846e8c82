/** A pCPU over a scripted engine: descriptor tables, a stack and a few instructions in 256 KiB of identity-mapped memory. */
import { u64 } from '../../../abi/uint.js';
import { X2APIC } from '../../../abi/x2apic.js';
import type { Instruction, Operand } from '../../../emulator/cpu/decode.js';
import type { CetState, EngineCounters, EngineStop } from '../../../emulator/cpu/port.js';
import { REG, RegisterFile } from '../../../emulator/cpu/registers.js';
import { PhysicalMemory } from '../../../emulator/memory/physical-memory.js';
import { DEFAULT_CAPABILITIES } from '../../../emulator/vmx/capabilities.js';
import {
  NO_PCPU_EVENTS,
  Pcpu,
  type EnginePort,
  type PcpuEvents,
  type PcpuPorts,
} from '../../../emulator/vmx/pcpu.js';
import { IpiBus } from '../../../emulator/vmx/root/ipi-bus.js';
import type {
  CheckedAccess,
  AccessRefusal,
  AddressSpacePort,
} from '../../../emulator/vmx/root/linear-memory.js';
import { VmcsStore } from '../../../emulator/vmx/vmcs-store.js';

export const GDT = 0x1000;
export const IDT = 0x2000;
export const TSS = 0x3000;
export const DATA = 0x5000;
export const STACK = 0x8000;
export const CODE = 0x10000;
export const HANDLERS = 0x20000;
export const IST1 = 0x9000;

export const CS = 0x10;
export const SS = 0x18;
export const TR = 0x40;

// prettier-ignore
export const DESCRIPTOR = {
  CODE64: 0x00af_9b00_0000_ffffn, DATA: 0x00cf_9300_0000_ffffn, CODE32: 0x00cf_9b00_0000_ffffn,
  CODE64_DPL3: 0x00af_fb00_0000_ffffn, READ_ONLY: 0x00cf_9100_0000_ffffn,
} as const;

/** Each instruction is one byte long unless it says so. */
export function instruction(
  name: string,
  operands: readonly Operand[] = [],
  length = 1,
): Instruction {
  return { name, length, operands, isFpu: false };
}

export const reg = (register: number, sizeBytes = 8): Operand => ({
  kind: 'register',
  register,
  sizeBytes,
});
export const imm = (value: number): Operand => ({ kind: 'immediate', value: u64(value) });
export const at = (address: number): Operand => ({
  kind: 'memory',
  base: null,
  index: null,
  scale: 1,
  displacement: u64(address),
  segment: null,
});

/** What the engine meets at an address: a site, a stop of its own, or a native instruction with an effect. */
export type Scripted = Instruction | EngineStop | ((registers: RegisterFile) => void);

/** Executes one-byte no-operations everywhere but where something is scripted. */
export class FakeEngine implements EnginePort {
  readonly registers = new RegisterFile();
  readonly counters: EngineCounters = {
    instructions: 0,
    blocks: 0,
    stores: 0,
    inlineVmreads: 0,
    inlineVmwrites: 0,
    inlineRdtscs: 0,
    heldReturns: 0,
  };
  tscBase = 0;
  readonly script = new Map<number, Scripted>();
  readonly limits: number[] = [];
  stepOverNativeResult: EngineStop = { kind: 'invalid-instruction' };

  run(limit: number): EngineStop {
    this.limits.push(limit);
    for (let left = limit; ; left--) {
      const rip = Number(this.registers.get('RIP'));
      const scripted = this.script.get(rip);
      if (typeof scripted === 'object' && 'kind' in scripted) return scripted;
      if (typeof scripted === 'object') {
        return { kind: 'site', site: { address: u64(rip), instruction: scripted } };
      }
      if (left === 0) return { kind: 'limit' };
      this.registers.set('RIP', u64(rip + 1));
      scripted?.(this.registers);
      this.counters.instructions++;
    }
  }

  cet: CetState | null = null;
  isWaitingForEndbranch = false;

  setCet(cet: CetState | null): void {
    this.cet = cet;
    this.isWaitingForEndbranch = cet?.isWaiting ?? false;
  }

  /** What vectors() gives, one call after the other; zeroes when there is nothing left. */
  readonly vectorsInTurn: Uint8Array[] = [];

  vectors(): Uint8Array {
    return this.vectorsInTurn.shift() ?? new Uint8Array(256);
  }

  stepOverNative(): EngineStop {
    return this.stepOverNativeResult;
  }
}

/** An address space that allows all of memory but what a test forbids. */
export class FakeSpace implements AddressSpacePort {
  readonly activated: bigint[] = [];
  readonly invalidated: (bigint | null)[] = [];
  readonly refused = new Map<number, AccessRefusal['kind'] | 'read-only'>();
  refuseActivation: string | null = null;

  activate(cr3: bigint): string | null {
    if (this.refuseActivation === null) this.activated.push(cr3);
    return this.refuseActivation;
  }

  check(linear: bigint, sizeBytes: number, access: CheckedAccess): AccessRefusal | null {
    const first = Number(linear) >> 12;
    const last = (Number(linear) + sizeBytes - 1) >> 12;
    for (let page = first; page <= last; page++) {
      const refusal = this.refused.get(page << 12);
      if (refusal === undefined || (refusal === 'read-only' && access !== 'write')) continue;
      const address = page === first ? linear : u64(page << 12);
      if (refusal === 'outside') return { kind: 'outside', address };
      const isPresent = refusal === 'read-only' ? 1 : 0;
      return { kind: 'page-fault', errorCode: isPresent | (access === 'write' ? 2 : 0), address };
    }
    return null;
  }

  invalidate(linear: bigint | null): void {
    this.invalidated.push(linear);
  }
}

export interface Fixture {
  readonly pcpu: Pcpu;
  readonly engine: FakeEngine;
  readonly memory: PhysicalMemory;
  readonly space: FakeSpace;
}

export interface FixtureOptions {
  readonly id?: number;
  readonly bus?: IpiBus;
  readonly events?: Partial<PcpuEvents>;
  readonly ports?: Partial<PcpuPorts>;
  readonly isNmiBlockedBySti?: boolean;
}

/** Handlers of vector n are at HANDLERS + 16 * n. */
export const handlerOf = (vector: number): number => HANDLERS + vector * 16;

export function writeGate(
  memory: PhysicalMemory,
  vector: number,
  gate: { offset?: bigint; selector?: number; ist?: number; type?: number; isPresent?: boolean },
): void {
  const offset = gate.offset ?? u64(handlerOf(vector));
  const middle =
    (Number(offset & 0xffff_0000n) >>> 0) +
    ((gate.isPresent ?? true) ? 0x8000 : 0) +
    ((gate.type ?? 14) << 8) +
    (gate.ist ?? 0);
  const base = u64(IDT + vector * 16);
  memory.writeU32(base, ((gate.selector ?? CS) << 16) + Number(offset & 0xffffn));
  memory.writeU32(base + 4n, middle);
  memory.writeU64(base + 8n, offset >> 32n);
}

/** Descriptor tables, TSS and gates as every fixture has them. */
export function writeTables(memory: PhysicalMemory): void {
  memory.writeU64(u64(GDT + CS), DESCRIPTOR.CODE64);
  memory.writeU64(u64(GDT + SS), DESCRIPTOR.DATA);
  for (let vector = 0; vector < 256; vector++) writeGate(memory, vector, {});
  memory.writeU64(u64(TSS + 0x24), u64(IST1));
}

// prettier-ignore
const INITIAL: readonly (readonly [number, number])[] = [
  [REG.RIP, CODE], [REG.RSP, STACK], [REG.RFLAGS, 2],
  [REG.CR0, 0x8001_0031], [REG.CR3, 0x7000], [REG.CR4, 0x5_2060], [REG.EFER, 0xd00],
  [REG.GDTR_BASE, GDT], [REG.GDTR_LIMIT, 0x4f], [REG.IDTR_BASE, IDT], [REG.IDTR_LIMIT, 0xfff],
  [REG.CS, CS], [REG.SS, SS], [REG.TR, TR], [REG.TR_BASE, TSS], [REG.TR_LIMIT, 0x67],
  [REG.DR6, 0xffff_0ff0], [REG.DR7, 0x400], [REG.XCR0, 1],
];

/** A pCPU in VMX root operation, in 64-bit mode at CODE, its APIC enabled. */
export function makePcpu(
  engine: EnginePort,
  memory: PhysicalMemory,
  addressSpace: AddressSpacePort,
  options: FixtureOptions = {},
): Pcpu {
  const bus = options.bus ?? new IpiBus();
  const pcpu = new Pcpu(
    {
      id: options.id ?? 0,
      apicId: options.id ?? 0,
      seed: 1,
      features: { xcr0: 0xe7n, isNmiBlockedBySti: options.isNmiBlockedBySti ?? false },
      timerTicksPerCount: 1,
      capabilities: DEFAULT_CAPABILITIES,
    },
    engine,
    {
      memory,
      addressSpace,
      ipi: bus,
      vmcsStore: new VmcsStore(memory),
      cpuid: { execute: (_cpu, leaf, subleaf) => ({ eax: leaf, ebx: subleaf, ecx: 3, edx: 4 }) },
      portIo: { read: () => undefined, write: () => false },
      vmx: { execute: () => ({ kind: 'succeed' }) },
      ...options.ports,
    },
    { ...NO_PCPU_EVENTS, ...options.events },
  );
  bus.attach(pcpu.apic);
  pcpu.vmx.mode = 'root';
  for (const [slot, value] of INITIAL) engine.registers.values[slot] = u64(value);
  pcpu.apic.write(X2APIC.SIVR, 0x1ffn);
  return pcpu;
}

export function fixture(options: FixtureOptions = {}): Fixture {
  const memory = new PhysicalMemory(new ArrayBuffer(0x40000));
  const engine = new FakeEngine();
  const space = new FakeSpace();
  writeTables(memory);
  return { pcpu: makePcpu(engine, memory, space, options), engine, memory, space };
}

/** The quadwords at RSP, the top of the stack first. */
export function stackOf(
  { pcpu, memory }: Pick<Fixture, 'pcpu' | 'memory'>,
  count: number,
): bigint[] {
  const rsp = pcpu.registers.get('RSP');
  return Array.from({ length: count }, (_, index) => memory.readU64(rsp + u64(index * 8)));
}
