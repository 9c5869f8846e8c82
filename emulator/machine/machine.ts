/**
 * The machine: pCPUs with their engines, vCPUs on them, the kernel of the day, and virtual time.
 *
 * Source: DESIGN ("One VM exit, as the data flows", "Deterministic time").
 * Invariant: the core whose next step is earliest goes first; a run is a pure function of payload, scenario and seed.
 * Not modelled: two cores inside their handlers at once; a handler runs from its exit to its end in one step, unless it
 * waits.
 */
import { CARETAKER_CCB, CARETAKER_KVM_PAGE } from '../../abi/ccb.js';
import { HarnessBug } from '../../abi/errors.js';
import { printExitReason } from '../../abi/exit-reasons.js';
import { offsetsOf } from '../../abi/layout.js';
import { hex, toIndex } from '../../abi/uint.js';
import { EventQueue } from '../clock/event-queue.js';
import { EngineMemory } from '../cpu/engine.js';
import { REG } from '../cpu/registers.js';
import type { Guest } from '../guest/guest.js';
import type { KvmCpu, KvmMachine } from '../host/kvm/ports.js';
import type { Kvm } from '../host/kvm/kvm.js';
import { enterKvm, onRoutedExit } from '../host/kvm/vcpu-run.js';
import type { KvmVcpu } from '../host/kvm/vcpu.js';
import type { KvmVm } from '../host/kvm/vm.js';
import { NOTIFICATION_VECTOR } from '../host/kvm/vm.js';
import { DONE, refuse, type Result } from '../host/result.js';
import { PhysicalMemory } from '../memory/physical-memory.js';
import { VMCS_SLOT } from '../../abi/vmcs-fields.js';
import { DEFAULT_CAPABILITIES } from '../vmx/capabilities.js';
import type { PcpuEvents } from '../vmx/pcpu.js';
import { IpiBus } from '../vmx/root/ipi-bus.js';
import { VmcsStore } from '../vmx/vmcs-store.js';
import { initAndStart, makeCore, type Core } from './cores.js';
import type { HandStep } from './conductor/by-hand.js';
import type { DebugHook } from './debug-hook.js';
import { Hooks } from './hooks.js';
import { onDelivery } from './interposed-events.js';
import { Lane } from './lane.js';
import { Ledger } from './ledger.js';
import { MachineMemory } from './memory.js';
import { PayloadRunner } from './payload-runner.js';
import { GuestRunner } from './guest-runner.js';
import { callPayload } from './payload-call.js';
import { Snapshots, type MachineSnapshot } from './snapshot.js';
import { Timeline } from './timeline.js';
import { nextPollTsc, nextTscOf } from './wake.js';

/** TSC ticks a second, and of the modelled invariant TSC. */
export const TSC_FREQUENCY_HZ = 2_000_000_000;
/** What KVM takes for a routed exit, from kvm_vmexit to VM entry; to userspace and back. */
const KVM_EXIT_TICKS = 2_500;
const KVM_USER_EXIT_TICKS = 12_000;
/** Longest time that a stopped vCPU may take to arrive in KVM. */
const STOP_TIMEOUT_TICKS = TSC_FREQUENCY_HZ;

/** More than any scenario of reasonable length needs. */
const MAX_STEPS = 20_000_000;

const MIB = 1 << 20;
const ATTACH_STATE = offsetsOf<'request'>(CARETAKER_CCB);

/** Reads of the flag and of the routing pointers, and every store, in KVM's page of the CCB. */
const WATCHED_READS = new Uint8Array(CARETAKER_KVM_PAGE).fill(
  1,
  0,
  ATTACH_STATE.request - CARETAKER_KVM_PAGE,
);
const WATCHED_WRITES = new Uint8Array(CARETAKER_KVM_PAGE).fill(1);

/** How a machine is made. */
export interface MachineConfig {
  readonly vcpus: number;
  readonly seed: number;
  /** Whether the timeline keeps every exit. */
  readonly wantsSlices: boolean;
  /** Steps of all vCPUs together, after which a run that makes no progress ends with a finding. */
  readonly maxSteps?: number;
  /** Every poll of a waiting payload is executed; only for the proof that skipping them changes nothing. */
  readonly pollsEveryTime?: boolean;
}

/** The machine's own part of a snapshot. */
export interface MachineState {
  readonly hostTsc: number;
  readonly steps: number;
  readonly hostWishes: readonly HandStep[];
}

export class Machine implements KvmMachine {
  readonly config: MachineConfig;
  readonly memory: PhysicalMemory;
  readonly machineMemory: MachineMemory;
  readonly capabilities = DEFAULT_CAPABILITIES;
  readonly tscFrequencyHz = TSC_FREQUENCY_HZ;
  readonly vmcsStore: VmcsStore;
  readonly cores: readonly Core[];
  readonly lanes: Lane[] = [];
  readonly hooks = new Hooks();
  readonly ledger = new Ledger();
  readonly timeline: Timeline;
  /** Things the host does at a time of its own. */
  readonly events = new EventQueue<() => void>();
  /** A debugger that is asked at instruction boundaries. */
  debug: DebugHook | null = null;
  /** The KVM that answers routed exits; null while no kernel runs. */
  kvm: Kvm | null = null;
  /** Makes the guest of a vCPU that is run for the first time. */
  guestOf: (vcpuId: number) => Guest = () => {
    throw new HarnessBug('the scenario gives no guests');
  };
  /** Whether an address is KHO-preserved and outside scratch. */
  isPreserved: (address: bigint) => boolean = () => false;
  /** What the machine counts for the report. */
  readonly evidence: Record<string, number> = {};
  readonly guests: GuestRunner;
  /** The vCPU whose handler was paused and has not gone on: it comes before all others. */
  paused: Lane | null = null;
  readonly #payload: PayloadRunner;
  readonly #snapshots: Snapshots;
  #hostTsc = 0;
  #steps = 0;
  #structureChanges = 0;
  #activation = 0;
  #activations = 0;

  constructor(config: MachineConfig) {
    this.config = config;
    const engineMemory = new EngineMemory((config.vcpus > 24 ? 96 : 32) * MIB);
    this.memory = new PhysicalMemory(engineMemory.buffer);
    this.machineMemory = new MachineMemory(this.memory);
    this.vmcsStore = new VmcsStore(this.memory);
    this.timeline = new Timeline(config.wantsSlices);
    const bus = new IpiBus();
    // The boot CPU manages; one core a vCPU; one spare to migrate to.
    this.cores = Array.from({ length: config.vcpus + 2 }, (_, id) =>
      makeCore({ id, machine: this, engineMemory, bus, seed: config.seed }),
    );
    this.guests = new GuestRunner(this);
    this.#snapshots = new Snapshots(this);
    this.#payload = new PayloadRunner(this);
  }

  /** Whether tables at a root are a payload's own. */
  isIsolatedCr3(cr3: bigint): boolean {
    return this.lanes.some((lane) => lane.vcpu.isolatedCr3 === cr3);
  }

  /** A core's current VMCS changed under its engine. */
  rebind(pcpuId: number): void {
    const { engine, pcpu } = this.#core(pcpuId);
    engine.bindVmcs(pcpu.vmx.current);
    const lane = this.laneOn(pcpuId);
    if (lane !== undefined) lane.boundVmcs = pcpu.vmx.current;
  }

  /** What a core tells the machine. */
  coreEvents(pcpuId: number): Partial<PcpuEvents> {
    return {
      onPause: (site) => {
        const lane = this.#laneIn(pcpuId);
        return lane === undefined ? 'continue' : this.#payload.onPause(lane, site);
      },
      onException: (exception, address) => {
        const lane = this.#laneIn(pcpuId);
        if (lane === undefined) return 'stop';
        this.#payload.onException(lane, exception, address);
        return 'deliver';
      },
      onDelivery: (event, interrupted, result) => {
        const lane = this.#laneIn(pcpuId);
        if (lane !== undefined) onDelivery(this, lane, event, interrupted, result);
      },
      onFinding: ({ invariant, address, message, details }) => {
        const lane = this.#laneIn(pcpuId);
        const where = lane?.inExit === true ? `${lane.describeExit()}: ` : '';
        this.ledger.fail(invariant, address, where + message, details);
        return 'continue';
      },
      onEoi: (vector) => {
        const lane = this.#laneIn(pcpuId);
        if (vector === null && lane?.inExit === true) lane.exit.strayEois++;
      },
    };
  }

  /** Whose memory an address is, for messages. */
  regionName(address: bigint): string {
    if (address >= BigInt(this.memory.sizeBytes)) return 'outside memory';
    const region = this.memory.regionAt(toIndex(address));
    return region === undefined ? 'free memory' : `${region.owner}: ${region.label}`;
  }

  /** What a debugger wants of the host; the conductor takes it when no vCPU is inside a handler. */
  readonly hostWishes: HandStep[] = [];

  /** Device interrupts that KVM routes, in every kernel of this run. */
  irqRoutes: Kvm['irqRoutes'] = [];

  /** Counts something a scenario is about. */
  count(what: string, by = 1): void {
    this.evidence[what] = (this.evidence[what] ?? 0) + by;
  }

  now(): number {
    return this.#hostTsc;
  }

  /** The lane that runs on a core, if any. */
  laneOn(pcpuId: number): Lane | undefined {
    return this.lanes.find((lane) => lane.pcpu.id === pcpuId);
  }

  /** The lane that executes on a core: none while the kernel calls a payload there. */
  #laneIn(pcpuId: number): Lane | undefined {
    return this.#core(pcpuId).isCalling ? undefined : this.laneOn(pcpuId);
  }

  lane(vcpuId: number): Lane {
    const lane = this.lanes.find((one) => one.id === vcpuId);
    if (lane === undefined) throw new HarnessBug(`no vCPU ${vcpuId} has run`);
    return lane;
  }

  // What KVM asks of the machine.

  cpu(id: number): KvmCpu {
    const core = this.#core(id);
    return Object.assign(core.pcpu, {
      call: (entry: bigint, rdi: bigint, top: bigint, cr3: bigint) =>
        callPayload(core, this.memory, {
          entry,
          rdi,
          stackTop: top,
          cr3,
          returnTo: this.kvm?.kernel.image.address('vmx_vmexit') ?? 0n,
        }),
    });
  }

  tablesChanged(): void {
    for (const core of this.cores) {
      core.spaces.tablesChanged();
      core.pcpu.forgetAddressSpace();
    }
  }

  codePlaced(base: bigint, sizeBytes: number): void {
    for (const core of this.cores) core.engine.invalidateCode(base, sizeBytes);
    this.tablesChanged();
  }

  kick(vcpuId: number): void {
    this.lane(vcpuId).pcpu.apic.request(NOTIFICATION_VECTOR);
  }

  waitFor(holds: () => boolean): boolean {
    return this.runUntil(holds, this.#hostTsc + STOP_TIMEOUT_TICKS);
  }

  stopVcpu(vcpuId: number): Result<void> {
    const lane = this.lane(vcpuId);
    if (lane.phase === 'in-kvm') return DONE;
    if (lane.phase === 'stopped') return refuse('ETIMEDOUT');
    lane.vcpu.stopRequested = true;
    this.kick(vcpuId);
    const arrived = this.runUntil(
      () => (lane.phase as string) === 'in-kvm',
      this.#hostTsc + STOP_TIMEOUT_TICKS,
    );
    return arrived ? DONE : refuse('ETIMEDOUT');
  }

  reclaimCore(id: number): Result<void> {
    const { pcpu } = this.#core(id);
    if (!initAndStart(pcpu)) return refuse('ETIMEDOUT');
    this.count('coresReclaimed');
    const lane = this.laneOn(id);
    if (lane !== undefined) lane.inExit = false;
    return DONE;
  }

  vcpuAdopted(vcpuId: number): void {
    const found = this.kvm?.findVcpu(vcpuId);
    if (found === undefined) throw new HarnessBug(`vCPU ${vcpuId} adopted without a KVM`);
    const lane = this.lane(vcpuId);
    const before = lane.vcpu;
    lane.vcpu = found.vcpu;
    this.hooks.atAdopt(lane, this.ledger, before);
    lane.pcpu.routingAddresses.add(found.vm.kernel.routingHandler);
    this.kick(vcpuId);
  }

  vcpuTakesOver(vcpuId: number): void {
    const lane = this.lane(vcpuId);
    lane.findPages();
    this.hooks.beforeTakeOver(lane, this.ledger);
  }

  vcpuTookOver(vcpuId: number): void {
    this.hooks.atTakeOver(this.lane(vcpuId), this.ledger);
  }

  vcpuStarted(vcpuId: number): void {
    const found = this.kvm?.findVcpu(vcpuId);
    if (found === undefined) throw new HarnessBug(`vCPU ${vcpuId} started without a KVM`);
    const lane = this.lanes.find((one) => one.id === vcpuId) ?? this.#addLane(found.vm, found.vcpu);
    lane.vcpu = found.vcpu;
    // It may have another instance than before.
    lane.findPages();
    this.#moveLane(lane, found.vcpu.pcpu);
    lane.pcpu.clock.advanceTo(this.#hostTsc);
    lane.pcpu.routingAddresses.add(found.vm.kernel.routingHandler);
    lane.phase = 'payload';
    // Up to VM entry KVM's own context is in use, so the caller waits for it.
    this.#activate(() => {
      this.step(lane);
      while (this.paused !== null) this.#goOn(this.paused);
    });
  }

  /** The gap begins: what every isolated vCPU can reach is looked at. */
  gapBegins(): void {
    for (const lane of this.lanes)
      if (lane.vcpu.state === 'detached') this.hooks.atGap(lane, this.ledger);
  }

  // Running.

  /** Runs until `done` or until virtual time passes `limitTsc`; false when time ran out or nothing can happen any more. */
  runUntil(done: () => boolean, limitTsc: number): boolean {
    return this.#activate(() => {
      for (;;) {
        if (this.paused !== null) {
          this.#goOn(this.paused);
          continue;
        }
        if (done()) return true;
        const lane = this.#nextLane();
        const laneTsc = lane === null ? Infinity : nextTscOf(lane, this.#hostTsc);
        const eventTsc = this.events.nextTsc;
        const tsc = Math.min(laneTsc, eventTsc);
        if (tsc >= limitTsc) {
          this.#hostTsc = Math.max(this.#hostTsc, limitTsc);
          return false;
        }
        if (tsc === Infinity) return false;
        if (eventTsc <= laneTsc) {
          this.#hostTsc = Math.max(this.#hostTsc, eventTsc);
          this.events.takeDue(this.#hostTsc)!.event();
        } else {
          this.#hostTsc = Math.max(this.#hostTsc, laneTsc);
          this.step(lane!);
        }
      }
    });
  }

  /** Shows a pause to the debugger, who may restore a snapshot; then the handler goes on that is paused now, if any. */
  #goOn(lane: Lane): void {
    this.debug?.paused?.(lane);
    const { paused } = this;
    this.paused = null;
    if (paused !== null) this.#payload.run(paused);
  }

  /** Lets virtual time pass, whatever the vCPUs do meanwhile. */
  runFor(ticks: number): void {
    const end = this.#hostTsc + ticks;
    this.runUntil(() => false, end);
    this.#hostTsc = Math.max(this.#hostTsc, end);
  }

  /** Lets one vCPU do its next thing: exit and handle, go on polling, or take an event. */
  step(lane: Lane): void {
    if (++this.#steps > (this.config.maxSteps ?? MAX_STEPS)) {
      this.#giveUp(lane);
      return;
    }
    switch (lane.phase) {
      case 'guest':
        this.guests.step(lane);
        return;
      case 'payload':
        this.#payload.run(lane);
        return;
      case 'waiting':
        this.#wake(lane);
        this.#payload.run(lane);
        return;
      case 'halted':
        lane.pcpu.clock.advanceTo(this.#hostTsc);
        this.#payload.run(lane);
        return;
      case 'in-kvm':
      case 'stopped':
        throw new HarnessBug(`vCPU ${lane.id} has nothing to do: ${lane.phase}`);
    }
  }

  /** In the `attach` life cycle HOST_RIP is KVM's own while attached: such an exit passes no payload. */
  exitsToKvm(lane: Lane): boolean {
    const found = this.kvm?.findVcpu(lane.id);
    if (found?.vm.kernel.routingHandler !== lane.rip) return false;
    enterKvm(found.vm, found.vcpu);
    this.count('exitsToKvmDirectly');
    this.timeline.addSlice({
      vcpu: lane.id,
      name: printExitReason(lane.vmcs.low(VMCS_SLOT.VM_EXIT_REASON) & 0xffff),
      outcome: 'kvm',
      tscBegin: lane.pcpu.now(),
      tscEnd: lane.pcpu.now(),
      sequence: this.evidence['exitsToKvmDirectly']!,
    });
    lane.phase = 'payload';
    lane.pcpu.registers.words[2 * REG.RDX] = lane.vmcs.low(VMCS_SLOT.VM_EXIT_REASON);
    this.routed(lane);
    if ((lane.phase as string) === 'payload') this.step(lane);
    return true;
  }

  /** Exits follow each other without end: nothing more is learnt from going on. */
  #giveUp(lane: Lane): void {
    this.ledger.fail(
      'bounded',
      lane.rip,
      `${lane.describeExit()}: no end after ${this.#steps - 1} steps of all vCPUs`,
    );
    for (const one of this.lanes) one.phase = 'stopped';
  }

  /** The payload is at a routing handler: KVM, if there is one at that address, takes over. */
  routed(lane: Lane): void {
    const { kvm } = this;
    const found = kvm?.findVcpu(lane.id);
    if (kvm === null || found === undefined || found.vm.kernel.routingHandler !== lane.rip) {
      this.ledger.fail(
        'no-routing-while-detached',
        lane.rip,
        `${lane.describeExit()}: jumped to ${hex(lane.rip)}, where no KVM is`,
      );
      lane.phase = 'stopped';
      return;
    }
    lane.vcpu = found.vcpu;
    const wasAdopting = found.vcpu.state === 'adopting';
    const verdict = onRoutedExit(found.vm, found.vcpu, lane.pcpu.registers.words[2 * REG.RDX]!);
    lane.inExit = false;
    lane.pcpu.clock.advance(verdict.kind === 'user' ? KVM_USER_EXIT_TICKS : KVM_EXIT_TICKS);
    this.timeline.add(lane.pcpu.now(), lane.id, `routed to ${kvm.kernel.image.banner}`, 1);
    if (wasAdopting) {
      this.timeline.add(
        lane.pcpu.now(),
        lane.id,
        `adopted: ${kvm.kernel.image.banner} has its VMCS`,
        3,
      );
    }
    if (verdict.kind === 'killed') {
      this.count('killed');
      this.timeline.add(lane.pcpu.now(), lane.id, `killed: ${verdict.why}`, 3);
      lane.phase = 'stopped';
      lane.exit.mayEnd = true;
    } else if (verdict.kind === 'dead') {
      this.ledger.fail('no-lost-exit', lane.rip, `vCPU ${lane.id}: ${verdict.why}`);
      lane.phase = 'stopped';
    } else if (verdict.kind === 'stay') {
      lane.phase = 'in-kvm';
    } else {
      lane.phase = 'payload';
    }
  }

  // Snapshots.

  /** Everything that a run depends on from here; see snapshot.ts. */
  snapshot(): MachineSnapshot {
    return this.#snapshots.take();
  }

  /** Goes back to a snapshot of this machine. @throws SnapshotError SNAPSHOT_STRUCTURE, SNAPSHOT_ACTIVATION. */
  restore(snapshot: MachineSnapshot): void {
    this.#snapshots.restore(snapshot);
  }

  /** Changes with the structure of the host: who owns memory, which kernel there is, what was preserved. */
  get structureEpoch(): number {
    return this.#structureChanges + this.memory.ownerChanges;
  }

  /** What the host does now is in no snapshot: those taken before are void. */
  structureChanged(): void {
    this.#structureChanges++;
  }

  /** Which of the loops that run vCPUs is the innermost one; 0 for none. */
  get activation(): number {
    return this.#activation;
  }

  state(): MachineState {
    return { hostTsc: this.#hostTsc, steps: this.#steps, hostWishes: this.hostWishes.slice() };
  }

  restoreState({ hostTsc, steps, hostWishes }: MachineState): void {
    this.hostWishes.splice(0, Infinity, ...hostWishes);
    this.#hostTsc = hostTsc;
    this.#steps = steps;
  }

  #activate<Value>(loop: () => Value): Value {
    const outer = this.#activation;
    this.#activation = ++this.#activations;
    try {
      return loop();
    } finally {
      this.#activation = outer;
    }
  }

  #nextLane(): Lane | null {
    let best: Lane | null = null;
    let bestTsc = Infinity;
    for (const lane of this.lanes) {
      const tsc = nextTscOf(lane, this.#hostTsc);
      if (tsc < bestTsc) {
        best = lane;
        bestTsc = tsc;
      }
    }
    return best;
  }

  #wake(lane: Lane): void {
    lane.pcpu.clock.advanceTo(nextPollTsc(lane, this.#hostTsc));
    lane.phase = 'payload';
  }

  #addLane(vm: KvmVm, vcpu: KvmVcpu): Lane {
    const core = this.#core(vcpu.pcpu);
    const lane = new Lane(
      vcpu,
      core.pcpu,
      core.engine,
      this.guestOf(vcpu.id),
      this.machineMemory,
      this.config.vcpus,
    );
    lane.tscOffset = toIndex(vm.settings.tscOffset);
    lane.tscFrequencyHz = this.tscFrequencyHz;
    lane.peers = () => this.lanes;
    lane.isPreserved = (address) => this.isPreserved(address);
    this.structureChanged();
    this.lanes.push(lane);
    this.lanes.sort((a, b) => a.id - b.id);
    return lane;
  }

  /** Binds a lane to a core and watches its CCB there. */
  #moveLane(lane: Lane, pcpuId: number): void {
    const core = this.#core(pcpuId);
    lane.pcpu = core.pcpu;
    lane.engine = core.engine;
    this.watch(core, lane.vcpu.ccb);
  }

  /** Watches KVM's page of a CCB on a core; 0 for that of no vCPU. */
  watch(core: Core, ccb: bigint): void {
    if (core.watched === ccb) return;
    const page = BigInt(CARETAKER_KVM_PAGE);
    if (ccb === 0n) core.engine.clearWatch(core.watched + page, CARETAKER_KVM_PAGE);
    else core.engine.setWatch(ccb + page, WATCHED_READS, WATCHED_WRITES, 'block');
    core.watched = ccb;
  }

  #core(id: number): Core {
    const core = this.cores[id];
    if (core === undefined) throw new HarnessBug(`no core ${id}`);
    return core;
  }
}
