/**
 * Snapshots of a whole machine: the debugger's reverse step, the fuzzer's reset and the explorer's branches.
 *
 *     const before = machine.snapshot();      // between two steps, or while a handler is paused (DebugHook)
 *     machine.runUntil(...);
 *     machine.restore(before);                // as often as wanted, and forwards to a later one as well
 *
 * A snapshot is the pages that may have changed, and the plain state of every model: cores with their engines, active
 * VMCSs, vCPUs as the machine and as KVM see them, guests, the ledger, the timeline, waiting events, time. A handler that
 * is paused is part of it: after restore() the loop goes on with that handler, in the middle.
 *
 * Source: DESIGN ("Snapshots", "Exact points").
 * Invariant: what runs after restore() is what ran after snapshot(), to the byte and the tick. What is derived from other
 * state (translations, the VMCS that an engine is bound to, host images) is made anew where it may be stale.
 * Not in it: the structure of the host (kernels, processes, LUO's and KHO's objects, the owner map, scenario steps). A
 * snapshot is void once that changed (Machine.structureEpoch), and outside the activation of the loop that it was
 * taken in, whose own variables are in no snapshot. Nor are coverage, block traces and breakpoints of the engines.
 * Not modelled: a translation that a payload left stale on purpose when it wrote its tables without an invalidation.
 */
import { HarnessError } from '../../abi/errors.js';
import type { EventQueueState } from '../clock/event-queue.js';
import type { RandomState } from '../clock/random.js';
import type { EngineSnapshot } from '../cpu/engine.js';
import type { KvmVcpu, KvmVcpuState } from '../host/kvm/vcpu.js';
import { WorkingSet, type PageImages } from '../memory/working-set.js';
import { PAGE_SIZE } from '../memory/physical-memory.js';
import { toIndex } from '../../abi/uint.js';
import type { PcpuState } from '../vmx/pcpu.js';
import type { VmcsStoreState } from '../vmx/vmcs-store.js';
import type { CompletionQueue } from './completions.js';
import type { Core } from './cores.js';
import type { Lane, LaneState } from './lane.js';
import type { LedgerState } from './ledger.js';
import type { Machine, MachineState } from './machine.js';
import type { TimelineState } from './timeline.js';

export type SnapshotErrorCode = 'SNAPSHOT_STRUCTURE' | 'SNAPSHOT_ACTIVATION';
/** A snapshot that can no longer be restored: `details` says what changed. */
export class SnapshotError extends HarnessError<SnapshotErrorCode> {}

interface CoreState {
  readonly engine: EngineSnapshot;
  readonly pcpu: PcpuState;
  readonly watched: bigint;
  /** Generation of the core's walks at which memory was this snapshot's; moves when a restore makes that true again. */
  generation: number;
}

/** All that a run depends on; opaque but for what it says of itself. */
export interface MachineSnapshot {
  readonly epoch: number;
  readonly activation: number;
  /** The handler that was paused, null between two steps. */
  readonly paused: Lane | null;
  readonly pages: PageImages;
  readonly machine: MachineState;
  readonly cores: readonly CoreState[];
  readonly vmcsStore: VmcsStoreState;
  readonly lanes: readonly (readonly [lane: Lane, state: LaneState])[];
  readonly vcpus: readonly (readonly [vcpu: KvmVcpu, state: KvmVcpuState])[];
  readonly guests: RandomState;
  readonly invariants: readonly unknown[];
  readonly ledger: LedgerState;
  readonly timeline: TimelineState;
  readonly events: EventQueueState<() => void>;
  readonly evidence: Readonly<Record<string, number>>;
  readonly completions: readonly Readonly<CompletionQueue>[];
}

/** Takes and restores the snapshots of one machine. */
export class Snapshots {
  readonly #machine: Machine;
  #set: { readonly pages: WorkingSet; readonly epoch: number } | null = null;

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  take(): MachineSnapshot {
    const machine = this.#machine;
    return {
      epoch: machine.structureEpoch,
      activation: machine.activation,
      paused: machine.paused,
      pages: this.#pages().take(),
      machine: machine.state(),
      cores: machine.cores.map(coreState),
      vmcsStore: machine.vmcsStore.state(),
      lanes: machine.lanes.map((lane) => [lane, lane.state()]),
      vcpus: this.#vcpus().map((vcpu) => [vcpu, vcpu.snapshot()]),
      guests: machine.guests.state(),
      invariants: machine.hooks.invariants.map((invariant) => invariant.state?.()),
      ledger: machine.ledger.state(),
      timeline: machine.timeline.state(),
      events: machine.events.state(),
      evidence: { ...machine.evidence },
      completions: machine.completions?.state() ?? [],
    };
  }

  restore(snapshot: MachineSnapshot): void {
    const machine = this.#machine;
    this.#refuseVoid(snapshot);
    const changed = this.#pages().restore(snapshot.pages);
    machine.restoreState(snapshot.machine);
    machine.paused = snapshot.paused;
    machine.vmcsStore.restore(snapshot.vmcsStore);
    for (const core of machine.cores) this.#restoreCore(core, snapshot.cores[core.id]!, changed);
    for (const [vcpu, state] of snapshot.vcpus) vcpu.restore(state);
    for (const [lane, state] of snapshot.lanes) lane.restore(state);
    machine.guests.restore(snapshot.guests);
    machine.hooks.invariants.forEach((invariant, index) =>
      invariant.restore?.(snapshot.invariants[index]),
    );
    machine.ledger.restore(snapshot.ledger);
    machine.timeline.restore(snapshot.timeline);
    machine.events.restore(snapshot.events);
    restoreCounts(machine.evidence, snapshot.evidence);
    machine.completions?.restore(snapshot.completions);
  }

  /** The working set of this structure; a new one when the structure has changed since the last. */
  #pages(): WorkingSet {
    const { memory, cores, structureEpoch } = this.#machine;
    if (this.#set?.epoch === structureEpoch) return this.#set.pages;
    const pages = new WorkingSet(memory);
    for (const { spaces } of cores)
      for (const { physical, sizeBytes } of spaces.writable())
        pages.add(toIndex(physical), sizeBytes);
    memory.writeFollower = pages;
    this.#set = { pages, epoch: structureEpoch };
    return pages;
  }

  /** Every vCPU that anything may change: those that run, and those that this kernel's KVM knows. */
  #vcpus(): readonly KvmVcpu[] {
    const { lanes, kvm } = this.#machine;
    const vcpus = new Set(lanes.map(({ vcpu }) => vcpu));
    for (const vm of kvm?.vms ?? []) for (const vcpu of vm.vcpus) vcpus.add(vcpu);
    return [...vcpus];
  }

  #restoreCore(core: Core, state: CoreState, changedPages: readonly number[]): void {
    const { engine, pcpu, spaces } = core;
    const { vmcsStore } = this.#machine;
    engine.restore(state.engine);
    pcpu.restore(state.pcpu, (regionPa) => vmcsStore.activeOn(core.id, regionPa) ?? null);
    for (const page of changedPages)
      if (engine.holdsCode(page)) engine.invalidateCode(BigInt(page), PAGE_SIZE);
    if (spaces.isStaleAfterRestore(state.generation, changedPages)) spaces.tablesChanged();
    state.generation = spaces.generation;
    this.#machine.watch(core, state.watched);
  }

  #refuseVoid({ epoch, activation }: MachineSnapshot): void {
    const machine = this.#machine;
    if (epoch !== machine.structureEpoch) {
      throw new SnapshotError(
        'SNAPSHOT_STRUCTURE',
        'the structure of the host has changed since the snapshot was taken',
        { taken: epoch, now: machine.structureEpoch },
      );
    }
    if (activation !== machine.activation) {
      throw new SnapshotError(
        'SNAPSHOT_ACTIVATION',
        'the snapshot was taken in another loop than the one that runs the vCPUs now',
        { taken: activation, now: machine.activation },
      );
    }
  }
}

function coreState({ engine, pcpu, spaces, watched }: Core): CoreState {
  return {
    engine: engine.snapshot(),
    pcpu: pcpu.state(),
    watched,
    generation: spaces.generation,
  };
}

function restoreCounts(
  counts: Record<string, number>,
  wanted: Readonly<Record<string, number>>,
): void {
  for (const name of Object.keys(counts))
    if (!(name in wanted)) Reflect.deleteProperty(counts, name);
  Object.assign(counts, wanted);
}
