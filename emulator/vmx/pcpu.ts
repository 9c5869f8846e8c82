/**
 * A pCPU in VMX root operation: runs the engine from stop to stop, executes trap sites, and takes events between them.
 *
 * Source: DESIGN ("Exact points", "Traps are sites, not callbacks"); SDM, "Initial State of the Processor After INIT",
 * "VMX Operation" for INIT; what a site does is in root/instructions, what is taken when in root/pending-events.ts.
 * Invariant: events land on instruction boundaries; VMLAUNCH and VMRESUME stop before they execute, everything else
 * that a model executes takes one tick.
 * Not modelled: SMIs, single stepping and breakpoints by DR7, what INIT and SIPI do to registers.
 */
import { VECTOR } from '../../abi/interruption.js';
import { hex, u64 } from '../../abi/uint.js';
import { Random, type RandomState } from '../clock/random.js';
import { VirtualClock, type VirtualClockState } from '../clock/virtual-clock.js';
import type { EngineStop, TrapSite } from '../cpu/port.js';
import { REG, type RegisterFile } from '../cpu/registers.js';
import type { PhysicalBytes } from '../memory/physical-memory.js';
import type { VmxCapabilities } from './capabilities.js';
import { EptTlb, type EptTlbState } from './ept/tlb.js';
import type { PcpuConfig, PcpuEvents, PcpuPorts } from './pcpu-ports.js';
import type { Blocking, VmxOperation } from './ports.js';
import { ActiveAddressSpace } from './root/active-address-space.js';
import { enforcedBy, isCetOn, setTracker } from './root/control-flow.js';
import { deliver, type DeliveryEvent } from './root/idt-delivery.js';
import { executeInstruction } from './root/instructions/index.js';
import { LinearMemory } from './root/linear-memory.js';
import { LocalApic, type LocalApicState } from './root/local-apic.js';
import type { LoggedError } from './root/machine-check.js';
import { MsrFile, type MsrFileState } from './root/msr-file.js';
import { msrTable } from './root/msr-table.js';
import { RootMsrs } from './root/msrs.js';
import { UNDEFINED_OPCODE, fault, unmodelled, type Failure, type Fault } from './root/outcome.js';
import { takeEvent } from './root/pending-events.js';
import type { EnginePort, RootCpu, RootFeatures, RootPorts } from './root/root-cpu.js';
import type { Activity, Finding, StopReason } from './stop-reason.js';
import type { VmcsStore } from './vmcs-store.js';
import type { VmxInstruction, VmxResult } from './vmx-instructions.js';

export * from './pcpu-ports.js';

/** A pCPU as plain data; `current` is the region of the current VMCS, whose own state the VMCS store keeps. */
export interface PcpuState {
  readonly registers: BigUint64Array;
  readonly msrs: MsrFileState;
  readonly apic: LocalApicState;
  readonly clock: VirtualClockState;
  readonly random: RandomState;
  readonly blocking: Blocking;
  readonly activity: Activity;
  readonly pendingNmi: boolean;
  readonly pendingInit: boolean;
  readonly pendingMachineCheck: boolean;
  readonly isMachineCheckRestartable: boolean;
  readonly machineCheckError: LoggedError | null;
  readonly requestedStop: StopReason | null;
  /** Exceptions without an instruction between them, and the count of instructions at the last. */
  readonly exceptionsInARow: number;
  readonly exceptionsSince: number;
  readonly eptTlb: EptTlbState;
  readonly vmx: {
    readonly vmxonPointer: bigint | null;
    readonly mode: VmxOperation['mode'];
    readonly current: bigint | null;
  };
}

export class Pcpu implements RootCpu {
  readonly id: number;
  readonly apicId: number;
  readonly memory: PhysicalBytes;
  readonly registers: RegisterFile;
  readonly engine: EnginePort;
  readonly clock: VirtualClock;
  readonly apic: LocalApic;
  readonly msrs: RootMsrs;
  readonly linear: LinearMemory;
  readonly random: Random;
  readonly ports: RootPorts;
  readonly features: RootFeatures;
  readonly capabilities: VmxCapabilities;
  readonly vmcsStore: VmcsStore;
  readonly blocking: Blocking = { sti: false, movSs: false, nmi: false };
  readonly vmx: VmxOperation = { vmxonPointer: null, current: null, mode: 'off' };
  readonly eptTlb = new EptTlb();
  /** Addresses at which an engine breakpoint means `routed`. */
  readonly routingAddresses = new Set<bigint>();
  activity: Activity = 'active';
  /** One NMI is latched while NMIs are blocked. */
  pendingNmi = false;
  /** An INIT, which VMX root operation blocks and VMXOFF lets through. */
  pendingInit = false;
  pendingMachineCheck = false;
  /** Whether the interrupted context can go on after it: IA32_MCG_STATUS.RIPV. */
  isMachineCheckRestartable = true;
  /** What it logs in its bank, null for nothing that matters to software. */
  machineCheckError: LoggedError | null = null;
  readonly #space: ActiveAddressSpace;
  readonly #events: PcpuEvents;
  readonly #now: () => number;
  #requestedStop: StopReason | null = null;
  /** The count of instructions at which the run under way ends. */
  #end = 0;
  /** The engine holds near branches to something. */
  #isEnforcing = false;
  /** Exceptions since the last instruction that completed, and the count of instructions then. */
  #exceptionsInARow = 0;
  #exceptionsSince = -1;

  constructor(config: PcpuConfig, engine: EnginePort, ports: PcpuPorts, events: PcpuEvents) {
    this.id = config.id;
    this.apicId = config.apicId;
    this.features = config.features;
    this.capabilities = config.capabilities;
    this.vmcsStore = ports.vmcsStore;
    this.memory = ports.memory;
    this.engine = engine;
    this.registers = engine.registers;
    this.#events = events;
    this.clock = new VirtualClock(engine);
    this.#now = () => this.clock.now();
    this.random = new Random(config.seed);
    this.#space = new ActiveAddressSpace(ports.addressSpace, engine.registers);
    this.ports = {
      addressSpace: this.#space,
      cpuid: ports.cpuid,
      portIo: ports.portIo,
      vmx: ports.vmx,
    };
    const rip = (): bigint => this.registers.values[REG.RIP]!;
    this.linear = new LinearMemory(ports.memory, this.#space, events, rip);
    const apic = { id: config.apicId, timerTicksPerCount: config.timerTicksPerCount };
    this.apic = new LocalApic(apic, this.#now, ports.ipi, {
      onNmi: () => (this.pendingNmi = true),
      onInit: () => (this.pendingInit = true),
      onStartup: (vector) => {
        if (this.activity === 'wait-for-sipi') events.onStartup(vector);
      },
      onSmi: () => undefined,
      onEoi: (vector, isLevel) => events.onEoi(vector, isLevel),
    });
    this.msrs = new RootMsrs(
      new MsrFile(msrTable(config.capabilities)),
      this.registers,
      this.apic,
      this.#now,
    );
  }

  now(): number {
    return this.clock.now();
  }

  /** Instructions executed since the engine was made, by it and by the models. */
  get retired(): number {
    return this.engine.counters.instructions;
  }

  /** Ends the run at the next instruction boundary; for hooks that found something. */
  requestStop(reason: StopReason): void {
    this.#requestedStop ??= reason;
  }

  /** Ends the run that is under way behind the next instruction that completes; for whoever wants to look there. */
  endSoon(): void {
    this.#end = Math.min(this.#end, this.engine.counters.instructions + 1);
  }

  report(finding: Finding): 'continue' | 'stop' {
    return this.#events.onFinding(finding);
  }

  onVmxInstruction(instruction: VmxInstruction, result: VmxResult): void {
    this.#events.onVmxInstruction(instruction, result);
  }

  /** Page tables or the mapping changed from outside: make the address space anew before the next run. */
  forgetAddressSpace(): void {
    this.#space.forget();
  }

  /** Takes what is due at this boundary, as run() does first; the stop that follows without an instruction, or null. */
  settle(): StopReason | null {
    const refusal = this.#space.sync();
    if (refusal !== null) return unmodelled('CR3', this.#rip(), refusal).reason;
    if (this.#requestedStop !== null) return this.#takeRequestedStop(this.#requestedStop);
    return this.#atBoundary();
  }

  /** Executes at most `limit` instructions from the register file; what is due after the last one waits for the next run. */
  run(limit: number): StopReason {
    const refusal = this.#space.sync();
    if (refusal !== null) return unmodelled('CR3', this.#rip(), refusal).reason;
    const { counters } = this.engine;
    this.#end = counters.instructions + limit;
    for (;;) {
      if (this.#requestedStop !== null) return this.#takeRequestedStop(this.#requestedStop);
      const left = this.#end - counters.instructions;
      if (left <= 0) return { kind: 'instruction-limit', address: this.#rip() };
      const stopped = this.#atBoundary();
      if (stopped !== null) return stopped;
      const before = counters.instructions;
      const stop =
        this.#isEnforcing || isCetOn(this)
          ? this.#runEnforced(left)
          : this.engine.run(this.#budget(left));
      if (stop.kind === 'unmodelled') return stop;
      if (counters.instructions !== before) this.#endShadow();
      // The engine may stop at a site with nothing left of the limit: it is not this run's to execute.
      if (stop.kind === 'site' && counters.instructions >= this.#end) continue;
      const reason = this.#handle(stop);
      if (reason !== null) return reason;
    }
  }

  /** Runs the engine under control-flow enforcement. */
  #runEnforced(left: number): EngineStop | Extract<StopReason, { kind: 'unmodelled' }> {
    const cet = enforcedBy(this);
    if (typeof cet === 'string') {
      return { kind: 'unmodelled', name: 'indirect branch', address: this.#rip(), detail: cet };
    }
    this.engine.setCet(cet);
    this.#isEnforcing = cet !== null;
    const stop = this.engine.run(this.#budget(left));
    if (cet?.endbranch === true && this.engine.isWaitingForEndbranch !== cet.isWaiting) {
      setTracker(this, !cet.isWaiting);
    }
    return stop;
  }

  /** Delivers an exception that the machine raises at this boundary, as hardware would have; null when it went through. */
  raise(exception: Fault): StopReason | null {
    const address = this.#rip();
    if (this.#events.onException(exception, address) === 'stop') {
      return {
        kind: 'exception',
        address,
        vector: exception.vector,
        errorCode: exception.errorCode,
        faultAddress: exception.address,
      };
    }
    if (this.#isStuck()) return this.#stuckInExceptions(exception.vector);
    if (exception.address !== null) this.registers.values[REG.CR2] = exception.address;
    const { vector, errorCode } = exception;
    return this.#deliver({ vector, kind: 'exception', errorCode });
  }

  state(): PcpuState {
    return {
      registers: this.registers.values.slice(),
      msrs: this.msrs.file.state(),
      apic: this.apic.state(),
      clock: this.clock.state(),
      random: this.random.state(),
      blocking: { ...this.blocking },
      activity: this.activity,
      pendingNmi: this.pendingNmi,
      pendingInit: this.pendingInit,
      pendingMachineCheck: this.pendingMachineCheck,
      isMachineCheckRestartable: this.isMachineCheckRestartable,
      machineCheckError: this.machineCheckError,
      requestedStop: this.#requestedStop,
      exceptionsInARow: this.#exceptionsInARow,
      exceptionsSince: this.#exceptionsSince,
      eptTlb: this.eptTlb.state(),
      vmx: {
        vmxonPointer: this.vmx.vmxonPointer,
        mode: this.vmx.mode,
        current: this.vmx.current?.regionPa ?? null,
      },
    };
  }

  /** Restores a state after the engine's own; `vmcsAt` finds the restored VMCS of a region. */
  restore(state: PcpuState, vmcsAt: (regionPa: bigint) => VmxOperation['current']): void {
    this.registers.values.set(state.registers);
    this.msrs.file.restore(state.msrs);
    this.apic.restore(state.apic);
    this.clock.restore(state.clock);
    this.random.restore(state.random);
    Object.assign(this.blocking, state.blocking);
    this.activity = state.activity;
    this.pendingNmi = state.pendingNmi;
    this.pendingInit = state.pendingInit;
    this.pendingMachineCheck = state.pendingMachineCheck;
    this.isMachineCheckRestartable = state.isMachineCheckRestartable;
    this.machineCheckError = state.machineCheckError;
    this.#requestedStop = state.requestedStop;
    this.#exceptionsInARow = state.exceptionsInARow;
    this.#exceptionsSince = state.exceptionsSince;
    this.eptTlb.restore(state.eptTlb);
    // The engine's counters went back too: what it enforces is told again before it runs.
    this.#isEnforcing = true;
    const { vmxonPointer, mode, current } = state.vmx;
    this.vmx.vmxonPointer = vmxonPointer;
    this.vmx.mode = mode;
    this.vmx.current = current === null ? null : vmcsAt(current);
    this.#space.forget();
  }

  /** Whether exceptions follow each other with no instruction between them: hardware would do so for ever. */
  #isStuck(): boolean {
    const { instructions } = this.engine.counters;
    this.#exceptionsInARow =
      this.#exceptionsSince === instructions ? this.#exceptionsInARow + 1 : 1;
    this.#exceptionsSince = instructions;
    return this.#exceptionsInARow > EXCEPTIONS_IN_A_ROW;
  }

  #stuckInExceptions(vector: number): StopReason {
    const address = this.#rip();
    const finding = {
      invariant: 'bounded',
      message: `${EXCEPTIONS_IN_A_ROW} exceptions without an instruction between them, vector ${vector} last`,
      address,
      details: { vector, address: hex(address) },
    } as const;
    return { kind: 'finding', address, finding };
  }

  #takeRequestedStop(reason: StopReason): StopReason {
    this.#requestedStop = null;
    return reason;
  }

  #rip(): bigint {
    return this.registers.values[REG.RIP]!;
  }

  /** Takes what is due between two instructions: the timer, INIT, machine check, NMI, interrupt. */
  #atBoundary(): StopReason | null {
    if (this.clock.now() >= this.apic.nextTsc) this.apic.tick();
    if (this.pendingInit && this.vmx.mode === 'off') this.#takeInit();
    if (this.vmx.mode === 'aborted') this.activity = 'shutdown';
    if (this.activity === 'active' || this.activity === 'halted') {
      for (let event = takeEvent(this); event !== null; event = takeEvent(this)) {
        this.activity = 'active';
        const stopped = event === 'shutdown' ? this.#shutDown([]) : this.#deliver(event);
        if (stopped !== null) return stopped;
      }
    }
    return this.activity === 'active' ? null : this.#waiting(this.activity);
  }

  #takeInit(): void {
    this.pendingInit = false;
    this.apic.reset();
    this.activity = 'wait-for-sipi';
  }

  #deliver(event: DeliveryEvent): StopReason | null {
    const interrupted = this.#rip();
    const result = deliver(this, event);
    this.#events.onDelivery(event, interrupted, result);
    switch (result.kind) {
      case 'delivered':
        return null;
      case 'stop':
        return result.reason;
      case 'triple-fault':
        return this.#shutDown(result.vectors);
    }
  }

  #shutDown(vectors: readonly number[]): StopReason {
    this.activity = 'shutdown';
    return { kind: 'triple-fault', address: this.#rip(), vectors };
  }

  #waiting(activity: Exclude<Activity, 'active'>): StopReason {
    return { kind: 'halted', address: this.#rip(), activity, wakeTsc: this.apic.nextTsc };
  }

  /** Up to the next timer expiry, and one instruction where an event waits for a shadow to end. */
  #budget(left: number): number {
    const { sti, movSs } = this.blocking;
    if ((sti || movSs) && (this.pendingNmi || this.apic.deliverable >= 0)) return 1;
    const untilTimer = this.apic.nextTsc - this.clock.now();
    return untilTimer < left ? Math.ceil(untilTimer) : left;
  }

  #endShadow(): void {
    this.blocking.sti = false;
    this.blocking.movSs = false;
  }

  #handle(stop: EngineStop): StopReason | null {
    switch (stop.kind) {
      case 'site':
        // The timer may have expired with the last instruction: its interrupt comes before the site.
        return this.clock.now() >= this.apic.nextTsc ? null : this.#atSite(stop.site);
      case 'limit':
        return null;
      case 'breakpoint': {
        const address = this.#rip();
        return { kind: this.routingAddresses.has(address) ? 'routed' : 'breakpoint', address };
      }
      case 'watch': {
        const { access, address, sizeBytes, rip } = stop;
        return {
          kind: 'watchpoint',
          address: this.#rip(),
          access: { access, address, sizeBytes, rip },
        };
      }
      case 'exception':
        return this.#onEngineException(stop.vector);
      case 'control-protection':
        return this.raise(fault(VECTOR.CP, stop.errorCode));
      case 'shadow-stack':
        return this.#fail(
          this.linear.explainShadowStack(stop.address, 8, stop.access) ??
            this.linear.outside(stop.address, 8, `shadow-stack-${stop.access}`),
        );
      case 'memory':
        return this.#fail(
          this.linear.explain(stop.address, stop.sizeBytes, stop.access) ??
            this.linear.outside(stop.address, stop.sizeBytes, stop.access),
        );
      case 'invalid-instruction':
        return this.#onInvalidInstruction();
    }
  }

  #atSite({ instruction }: TrapSite): StopReason | null {
    switch (instruction.name) {
      case 'VMRESUME':
      case 'VMLAUNCH':
        if (this.vmx.mode === 'off') return this.raise(UNDEFINED_OPCODE);
        return {
          kind: instruction.name === 'VMRESUME' ? 'vmresume' : 'vmlaunch',
          address: this.#rip(),
        };
      case 'PAUSE':
        return this.#pause(instruction.length);
    }
    this.#endShadow();
    const outcome = executeInstruction(this, instruction);
    switch (outcome.kind) {
      case 'next':
        this.#retire(instruction.length);
        return null;
      case 'jumped':
        this.#retire(0);
        return null;
      case 'native':
        return null;
      case 'fault':
      case 'stop':
        return this.#fail(outcome);
    }
  }

  #pause(length: number): StopReason | null {
    const site = this.#rip();
    const verdict = this.#events.onPause(site);
    this.#endShadow();
    this.#retire(length);
    return verdict === 'stop' ? { kind: 'spinning', address: this.#rip(), site } : null;
  }

  /** One instruction that a model executed, one tick; a model that transferred control has set RIP. */
  #retire(length: number): void {
    this.engine.counters.instructions++;
    if (length > 0) this.registers.values[REG.RIP] = u64(this.#rip() + u64(length));
  }

  #fail(failure: Failure): StopReason | null {
    return failure.kind === 'stop' ? failure.reason : this.raise(failure);
  }

  #onEngineException(vector: number): StopReason | null {
    if (vector === VECTOR.PF) {
      return unmodelled('#PF', this.#rip(), 'the engine gave no faulting address').reason;
    }
    return this.raise(fault(vector, ZERO_ERROR_CODE.has(vector) ? 0 : null));
  }

  /** UD0, UD1 and UD2 are undefined on purpose; anything else is an instruction that nothing here knows. */
  #onInvalidInstruction(): StopReason | null {
    const rip = this.#rip();
    const failure = this.linear.explain(rip, 2, 'fetch');
    if (failure !== null) return this.#fail(failure);
    const opcode = this.memory.readU16(rip);
    if (DELIBERATELY_UNDEFINED.has(opcode)) return this.raise(UNDEFINED_OPCODE);
    return unmodelled(`opcode ${hex(opcode, 4)}`, rip, 'unknown to sweep and engine').reason;
  }
}

/** More than any chain of first-time page faults; a handler that faults at its first instruction never ends. */
const EXCEPTIONS_IN_A_ROW = 64;

/** 0F 0B, 0F B9 and 0F FF, little-endian. */
const DELIBERATELY_UNDEFINED: ReadonlySet<number> = new Set([0x0b0f, 0xb90f, 0xff0f]);

/** Exceptions with an error code that is 0 when an instruction of CPL 0 code without a selector raises them. */
const ZERO_ERROR_CODE: ReadonlySet<number> = new Set([VECTOR.SS, VECTOR.GP, VECTOR.AC]);
