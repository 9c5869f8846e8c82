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
import { offsetsOf } from '../../abi/layout.js';
import { hex, toIndex } from '../../abi/uint.js';
import { EventQueue } from '../clock/event-queue.js';
import { EngineMemory } from '../cpu/engine-memory.js';
import type { Guest } from '../guest/guest.js';
import type { Kvm } from '../host/kvm/kvm.js';
import { PhysicalMemory } from '../memory/physical-memory.js';
import { DEFAULT_CAPABILITIES } from '../vmx/capabilities.js';
import { IpiBus } from '../vmx/root/ipi-bus.js';
import { VmcsStore } from '../vmx/vmcs-store.js';
import { coreEvents } from './core-events.js';
import { makeCore, type Core } from './cores.js';
import type { HandStep } from './conductor/by-hand.js';
import type { Completions } from './completions.js';
import type { DebugHook } from './debug-hook.js';
import { Hooks } from './hooks.js';
import { KvmHost } from './kvm-host.js';
import type { Lane } from './lane.js';
import { Ledger } from './ledger.js';
import { MachineMemory } from './memory.js';
import { PayloadRunner } from './payload-runner.js';
import { GuestRunner } from './guest-runner.js';
import { Snapshots, type MachineSnapshot } from './snapshot.js';
import { Timeline } from './timeline.js';
import { pcpuCount } from './topology.js';
import { nextPollTsc, nextTscOf } from './wake.js';

/** TSC ticks a second, and of the modelled invariant TSC. */
export const TSC_FREQUENCY_HZ = 2_000_000_000;
/** More than any scenario of reasonable length needs. */
const MAX_STEPS = 20_000_000;

const MIB = 1 << 20;
const CR0_WP = 1n << 16n;
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
  /** SMT: 1 unless said otherwise. */
  readonly threadsPerCore?: number;
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

export class Machine {
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
  /** The machine as KVM drives it. */
  readonly kvmHost = new KvmHost(this);
  /** The vCPU whose handler was paused and has not gone on: it comes before all others. */
  paused: Lane | null = null;
  readonly #payload: PayloadRunner;
  readonly #snapshots: Snapshots;
  #hostTsc = 0;
  #steps = 0;
  #structureChanges = 0;
  #activation = 0;
  #activations = 0;
  /** The last loop that no other one was around. */
  #lastActivation = 0;
  /** The loop that the next one is the rest of; null for none. */
  #takenUp: number | null = null;

  constructor(config: MachineConfig) {
    this.config = config;
    const engineMemory = new EngineMemory((config.vcpus > 24 ? 96 : 32) * MIB);
    this.memory = new PhysicalMemory(engineMemory.buffer);
    this.machineMemory = new MachineMemory(this.memory);
    this.vmcsStore = new VmcsStore(this.memory);
    this.timeline = new Timeline(config.wantsSlices);
    const bus = new IpiBus();
    this.cores = Array.from({ length: pcpuCount(config) }, (_, id) =>
      makeCore({
        id,
        machine: this,
        engineMemory,
        bus,
        seed: config.seed,
        events: coreEvents(this, id, () => this.#payload),
      }),
    );
    this.guests = new GuestRunner(this);
    this.#snapshots = new Snapshots(this);
    this.#payload = new PayloadRunner(this);
  }

  /** Whether tables at a root are a payload's own. */
  isIsolatedCr3(cr3: bigint): boolean {
    return this.lanes.some((lane) => lane.vcpu.isolatedCr3 === cr3);
  }

  /** A core translates by other tables, or without write protection: what a payload has no right to is a finding. */
  tablesLoaded(pcpuId: number, cr3: bigint): void {
    const lane = this.laneOn(pcpuId);
    if (lane?.inExit !== true) return;
    if ((lane.pcpu.registers.get('CR0') & CR0_WP) === 0n)
      this.ledger.fail('w-xor-x', lane.rip, `${lane.describeExit()}: CR0.WP is cleared`);
    const isGiven = this.isIsolatedCr3(cr3) || lane.vcpu.ccbView.get('routing_cr3') === cr3;
    if (isGiven) return;
    const message = `${lane.describeExit()}: CR3 is loaded with ${hex(cr3)}, tables that nobody gave it`;
    this.ledger.fail('isolation', lane.rip, message);
  }

  /** A core's current VMCS changed under its engine. */
  rebind(pcpuId: number): void {
    const { engine, pcpu } = this.core(pcpuId);
    engine.bindVmcs(pcpu.vmx.current);
    const lane = this.laneOn(pcpuId);
    if (lane !== undefined) lane.boundVmcs = pcpu.vmx.current;
  }

  get threadsPerCore(): number {
    return this.config.threadsPerCore ?? 1;
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

  /** What the VM's passed-through device does by itself; null where a scenario gives it no work. */
  completions: Completions | null = null;

  /** Counts something a scenario is about. */
  count(what: string, by = 1): void {
    this.evidence[what] = (this.evidence[what] ?? 0) + by;
  }

  now(): number {
    return this.#hostTsc;
  }

  /** @throws HarnessBug there is no such core. */
  core(id: number): Core {
    const core = this.cores[id];
    if (core === undefined) throw new HarnessBug(`no core ${id}`);
    return core;
  }

  /** The lane that runs on a core, if any. */
  laneOn(pcpuId: number): Lane | undefined {
    return this.lanes.find((lane) => lane.pcpu.id === pcpuId && lane.remains === null);
  }

  lane(vcpuId: number): Lane {
    const lane = this.lanes.find((one) => one.id === vcpuId);
    if (lane === undefined) throw new HarnessBug(`no vCPU ${vcpuId} has run`);
    return lane;
  }

  /** The gap begins: what every isolated vCPU can reach is looked at. */
  gapBegins(): void {
    for (const lane of this.lanes)
      if (lane.vcpu.state === 'detached') this.hooks.atGap(lane, this.ledger);
  }

  /** Page tables were changed or built: engines must look again. */
  tablesChanged(): void {
    for (const core of this.cores) {
      core.spaces.tablesChanged();
      core.pcpu.forgetAddressSpace();
    }
  }

  /** An instance was placed, or is about to be freed. */
  codePlaced(base: bigint, sizeBytes: number): void {
    for (const core of this.cores) core.engine.invalidateCode(base, sizeBytes);
    this.tablesChanged();
  }

  // Running.

  /** A vCPU is run for the first time. */
  addLane(lane: Lane): void {
    this.structureChanged();
    this.lanes.push(lane);
    this.lanes.sort((a, b) => a.id - b.id);
    const peers = this.lanes.filter(({ vmId }) => vmId === lane.vmId);
    for (const peer of peers) peer.peers = () => peers;
  }

  /** The guest takes an interrupt: by VM entry, or virtual-interrupt delivery. */
  interruptDelivered(lane: Lane, vector: number): void {
    lane.interrupts.deliver(vector);
    this.count('interruptsDelivered');
    this.hooks.atDelivery(lane, this.ledger, vector);
    this.completions?.taken(lane, vector);
    lane.guest.onEvent(vector);
  }

  /** A device's message is at a core; where no vCPU has the core, its interrupts are the kernel's, if there is one. */
  messageArrives(apicId: number, vector: number): void {
    const { apic } = this.core(apicId).pcpu;
    apic.request(vector);
    const lane = this.laneOn(apicId);
    const isHosts = lane === undefined || lane.phase === 'in-kvm';
    if (!isHosts || this.kvm === null || apic.deliverable !== vector) return;
    apic.acknowledge();
    apic.eoi();
    this.kvm.forwardInterrupt(vector);
  }

  /** Binds a lane to a core and watches its CCB there. */
  moveLane(lane: Lane, pcpuId: number): void {
    const core = this.core(pcpuId);
    lane.pcpu = core.pcpu;
    lane.engine = core.engine;
    this.watch(core, lane.vcpu.ccb);
  }

  /** Watches KVM's page of a CCB on a core; 0 for that of no vCPU. */
  watch(core: Core, ccb: bigint): void {
    if (core.watched === ccb) return;
    const page = BigInt(CARETAKER_KVM_PAGE);
    if (ccb === 0n) core.engine.watch.clear(core.watched + page, CARETAKER_KVM_PAGE);
    else core.engine.watch.set(ccb + page, WATCHED_READS, WATCHED_WRITES, 'block');
    core.watched = ccb;
  }

  /** KVM enters a vCPU. Up to VM entry KVM's own context is in use, so the caller waits for it. */
  runToEntry(lane: Lane): void {
    this.#activate(() => {
      this.step(lane);
      while (this.paused !== null) this.#goOn(this.paused);
    });
  }

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

  /** Exits follow each other without end: nothing more is learnt from going on. */
  #giveUp(lane: Lane): void {
    this.ledger.fail(
      'bounded',
      lane.rip,
      `${lane.describeExit()}: no end after ${this.#steps - 1} steps of all vCPUs`,
    );
    for (const one of this.lanes) one.phase = 'stopped';
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

  /** The loop that ran last: with the structure of then, snapshots that were taken in it may be gone on from again. */
  get lastActivation(): number {
    return this.#lastActivation;
  }

  /**
   * The next loop takes up the last one, in the middle: `paused` is the handler of a snapshot that the debugger restores
   * in it. The caller runs it with the conditions of then.
   */
  takeUp(paused: Lane): void {
    this.#takenUp = this.#lastActivation;
    this.paused = paused;
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
    this.#activation = this.#takenUp ?? ++this.#activations;
    this.#takenUp = null;
    if (outer === 0) this.#lastActivation = this.#activation;
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

  /** Whether a device's interrupt for a vCPU is at a core that has not taken or not answered it. */
  isAtACore(vcpuId: number, guestVector: number): boolean {
    const routes = this.irqRoutes.filter(
      (route) => route.vcpuId === vcpuId && route.guestVector === guestVector,
    );
    return this.cores.some(({ pcpu: { apic } }) =>
      routes.some(({ hostVector }) => apic.isRequested(hostVector) || apic.isInService(hostVector)),
    );
  }
}
