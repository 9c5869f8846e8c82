/**
 * Two vCPUs and the host on one machine, as a system whose steps can be taken in any order.
 *
 * Source: DESIGN ("Snapshots"); CONTRACT ("Who flips, and when", "Soft state").
 * Invariant: an execution is a function of cast and steps; all invariants and the executable specification judge it to its
 * end. Before KVM is made to come back for whoever still waits, nobody may wait in vain: KVM that is there, a request and
 * a posted interrupt have been seen.
 * Not modelled: time as something that steps depend on; the guests' timers are run out before.
 */
import {
  CARETAKER_ATTACH_STATE,
  CARETAKER_CCB,
  CARETAKER_REQUEST,
  CARETAKER_RUN_STATE,
} from '../../../abi/ccb.js';
import { HarnessBug } from '../../../abi/errors.js';
import { offsetsOf } from '../../../abi/layout.js';
import { CARETAKER_STALL } from '../../../abi/telemetry.js';
import { hex, toIndex } from '../../../abi/uint.js';
import { ScriptGuest } from '../../guest/script.js';
import { isolate, leaveVmx } from '../../host/kvm/vcpu-run.js';
import type { Routing } from '../../host/kvm/vcpu.js';
import type { KvmVm } from '../../host/kvm/vm.js';
import { Conductor } from '../../machine/conductor.js';
import type { Lane } from '../../machine/lane.js';
import type { Machine } from '../../machine/machine.js';
import { toScenario } from '../../machine/scenario/schema.js';
import type { MachineSnapshot } from '../../machine/snapshot.js';
import type { Finding, InvariantId, WatchedAccess } from '../../vmx/stop-reason.js';
import { ExploreError } from '../explore-error.js';
import type { Cast, CastState } from './casts.js';
import type { Footprint } from './footprint.js';
import type { Act } from './host-actors.js';
import type { ExploredSystem } from './partial-order.js';
import { SharedMemory } from './shared-memory.js';
import { postedOf, sharedOf } from './shared-pages.js';
import { VcpuActors } from './vcpu-actors.js';

const VCPUS = 2;
const WARM_UP_EXITS = 40;
/** The guests' timers run out in it, and a vCPU that anything can move has come to rest. */
const LONG_TICKS = 200_000_000;
/** A step is a few instructions; an execution that has so many makes no progress. */
const MAX_STEPS = 4_000;
/** Routing pointers before KVM has written its own: whoever uses them shows it. */
const STALE = 0x5a5a_5a5a_5a5a_5000n;

const CCB = offsetsOf<'state' | 'attach_state'>(CARETAKER_CCB);
/** A record of a stall as KVM read it. */
interface ReadRecord {
  readonly lane: Lane;
  readonly at: number;
  readonly bytes: Uint8Array;
}

/** The machine in one state, for every cast that begins there. */
export class Stand {
  readonly conductor: Conductor;
  readonly machine: Machine;
  readonly lanes: readonly Lane[];
  readonly vm: KvmVm;
  readonly state: CastState;

  constructor(payload: Uint8Array, state: CastState, seed: number) {
    this.state = state;
    const scenario = toScenario(
      {
        name: `explore: ${state.name}`,
        description: 'two vCPUs that act in any order',
        seed,
        vcpus: VCPUS,
        ...state.variant.settings,
        steps: [{ run: { exits: WARM_UP_EXITS } }],
      },
      state.name,
    );
    this.conductor = new Conductor(scenario, payload, false, { maxSteps: Infinity });
    this.conductor.run();
    this.machine = this.conductor.machine;
    this.lanes = this.machine.lanes;
    const vm = this.machine.kvm?.findVcpu(0)?.vm;
    if (vm === undefined) throw new HarnessBug('the machine has no VM');
    this.vm = vm;
    for (const lane of this.lanes) {
      lane.guest = new ScriptGuest([]);
      lane.action = { kind: 'wait' };
      lane.actionTsc = Infinity;
      lane.actsAlone = false;
    }
    this.rest();
    if (!state.isAttached) for (const lane of this.lanes) this.#detach(lane);
    this.rest();
    // What came before is nobody's of the cast.
    this.machine.ledger.clear();
  }

  /** Runs until nothing happens any more. */
  rest(): void {
    this.machine.runUntil(() => false, this.machine.now() + LONG_TICKS);
  }

  #detach(lane: Lane): void {
    const { machine, vm } = this;
    if (!machine.kvmHost.stopVcpu(lane.id).ok)
      throw new HarnessBug(`vCPU ${lane.id} cannot be stopped`);
    leaveVmx(vm, lane.vcpu);
    isolate(vm, lane.vcpu);
    for (const name of ['handler', 'stack', 'cr3', 'gs_base', 'argument'])
      lane.vcpu.ccbView.set(`routing_${name}`, STALE);
  }

  dispose(): void {
    for (const { engine } of this.machine.cores) engine.dispose();
  }
}

export class Scene implements ExploredSystem {
  readonly cast: Cast;
  readonly machine: Machine;
  /** vCPUs, hosts, and a store buffer for each vCPU: their numbers in a schedule follow each other. */
  readonly processes: number;
  readonly lanes: readonly Lane[];
  readonly #stand: Stand;
  readonly #snapshot: MachineSnapshot;
  readonly #shared: SharedMemory;
  readonly #vcpus: VcpuActors;
  #acts: (readonly Act[])[] = [];
  #done: number[] = [];
  #last = 0;
  #steps = 0;
  /** Lanes whose last look at the flag found KVM_DETACHED after they had said that they wait. */
  readonly #waitsOnOldFlag = new Set<Lane>();
  #records: ReadRecord[] = [];

  constructor(stand: Stand, cast: Cast, isTso: boolean, start: MachineSnapshot) {
    this.cast = cast;
    this.#stand = stand;
    const { machine, lanes } = stand;
    this.machine = machine;
    this.lanes = lanes;
    machine.debug = null;
    machine.restore(start);
    cast.exits.forEach(({ exit }, id) => {
      const peer = lanes[1 - id]!;
      machine.guests.script(lanes[id]!, { kind: 'exit', after: 0, exit: exit(peer.vcpu.apicId) });
    });
    this.#snapshot = machine.snapshot();
    // Where KVM does nothing to a vCPU, only the interrupts posted to it are anyone else's.
    const ranges = lanes.flatMap((lane) =>
      cast.hosts.some(({ vcpu }) => vcpu === lane.id) ? sharedOf(lane) : [postedOf(lane)],
    );
    this.#shared = new SharedMemory(machine.memory, ranges, VCPUS);
    this.#vcpus = new VcpuActors(machine, lanes, this.#shared, isTso, (actor, access) => {
      this.#look(lanes[actor]!, access);
    });
    this.processes = 2 * VCPUS + cast.hosts.length;
  }

  /** The next scene on the same machine is another's. */
  dispose(): void {
    this.machine.debug = null;
    this.#vcpus.dispose();
  }

  reset(): void {
    const { machine } = this;
    machine.restore(this.#snapshot);
    machine.debug = this.#vcpus;
    this.#vcpus.reset();
    this.#shared.reset();
    this.#acts = this.cast.hosts.map(({ script, vcpu }) => script.acts(this, this.lanes[vcpu]!));
    this.#done = this.#acts.map(() => 0);
    this.#last = 0;
    this.#steps = 0;
    this.#waitsOnOldFlag.clear();
    this.#records = [];
  }

  /** Who is not at rest: the one that took the last step first, then vCPUs, hosts and store buffers. */
  enabled(): readonly number[] {
    if (!this.machine.ledger.clean) return [];
    const found: number[] = [];
    for (let process = 0; process < this.processes; process++)
      if (this.#isEnabled(process)) found.push(process);
    const last = found.indexOf(this.#last);
    if (last > 0) found.unshift(...found.splice(last, 1));
    return found;
  }

  step(process: number): Footprint {
    this.#last = process;
    if (++this.#steps > MAX_STEPS) {
      this.#fail(this.lanes[0]!, 'bounded', `no end after ${MAX_STEPS} steps`);
      return [];
    }
    if (process < VCPUS) return this.#vcpus.step(process);
    const host = process - VCPUS;
    const acts = this.#acts[host];
    if (acts === undefined) return this.#shared.drain(host - this.#acts.length);
    const touched = acts[this.#done[host]!++]!.act();
    this.#shared.publish();
    return touched;
  }

  /** Takes steps, and goes on in the usual order to the end; what it came to. @throws ExploreError STEP_IMPOSSIBLE. */
  replay(steps: readonly number[]): readonly Finding[] {
    this.reset();
    for (const [index, process] of steps.entries()) {
      const enabled = this.enabled();
      if (enabled.length === 0) break;
      if (!enabled.includes(process))
        throw new ExploreError('STEP_IMPOSSIBLE', `step ${index + 1} cannot be taken there`, {
          step: index + 1,
          process,
        });
      this.step(process);
    }
    for (let next = this.enabled(); next.length > 0; next = this.enabled()) this.step(next[0]!);
    return this.judge();
  }

  /** The first of an execution's steps: those behind them are what the usual order takes. */
  needed(steps: readonly number[]): readonly number[] {
    this.reset();
    let needed = 0;
    for (const [index, process] of steps.entries()) {
      if (this.enabled()[0] !== process) needed = index + 1;
      this.step(process);
    }
    return steps.slice(0, needed);
  }

  /** The CCB of the instance that holds an address, else vCPU 0's. */
  ccbOf(address: bigint): bigint {
    const owner = this.lanes.find(({ vcpu }) =>
      vcpu.ranges.some(
        ({ base, sizeBytes }) => address >= base && address < base + BigInt(sizeBytes),
      ),
    );
    return (owner ?? this.lanes[0]!).vcpu.ccb;
  }

  #isEnabled(process: number): boolean {
    if (process < VCPUS) return this.#vcpus.isEnabled(process);
    const host = process - VCPUS;
    const acts = this.#acts[host];
    if (acts !== undefined) {
      const next = acts[this.#done[host]!];
      return next !== undefined && (next.when?.() ?? true);
    }
    return this.#shared.hasBuffered(host - this.#acts.length);
  }

  routingOf(lane: Lane): Routing {
    return this.#stand.vm.routingOf(lane.vcpu);
  }

  /** What an execution has come to: nobody waits in vain, and with KVM back everything is accounted for. */
  judge(): readonly Finding[] {
    const { machine } = this;
    this.#vcpus.release();
    if (machine.ledger.clean) for (const lane of this.lanes) this.#isNotForgotten(lane);
    if (machine.ledger.clean) this.#finish();
    return machine.ledger.findings.slice();
  }

  #isNotForgotten(lane: Lane): void {
    const { vcpu, phase } = lane;
    if (phase === 'stopped' || phase === 'in-kvm') return;
    const isFlipped =
      !this.cast.state.isAttached &&
      this.cast.hosts.some((host) => host.script.attaches === true && host.vcpu === lane.id);
    if (isFlipped && phase !== 'guest')
      this.#fail(lane, 'no-lost-exit', `KVM is back and the vCPU still waits (${phase})`);
    const isStopped = vcpu.payloadState === 'SERIALIZED';
    if (vcpu.ccbView.number('request') === CARETAKER_REQUEST.STOP && !isStopped)
      this.#fail(lane, 'bounded', `asked to stop, the vCPU goes on (${phase})`);
    if (lane.hasPosted && phase !== 'waiting')
      this.#fail(lane, 'interrupts', `an interrupt is posted and nobody looks at it (${phase})`);
  }

  #finish(): void {
    const { machine, lanes } = this;
    for (const lane of lanes) {
      if (lane.phase === 'stopped' || lane.vcpu.isAttached) continue;
      lane.noteRequestEnds();
      lane.vcpu.attach(this.routingOf(lane));
      lane.vcpu.state = 'running';
      machine.kvmHost.kick(lane.id);
    }
    this.#stand.rest();
    for (const { lane, at, bytes } of this.#records) {
      const now = machine.memory.read(BigInt(at), bytes.length);
      if (Buffer.compare(now, bytes) !== 0)
        this.#fail(lane, 'telemetry', 'KVM read a record of the ring before it was written');
    }
    for (const lane of lanes)
      if (lane.phase !== 'stopped') machine.hooks.atEnd(lane, machine.ledger);
  }

  // What hosts see.

  /** KVM has written the flag and looks at the state: who waits on the flag of before must say so. */
  kvmLooks(lane: Lane): void {
    const isRunning = lane.vcpu.ccbView.number('state') === CARETAKER_RUN_STATE.RUNNING;
    if (!isRunning || !this.#waitsOnOldFlag.has(lane)) return;
    this.#fail(
      lane,
      'no-lost-exit',
      'KVM wrote KVM_ATTACHED and saw RUNNING; the payload had said that it waits and read KVM_DETACHED after it: neither saw the other',
    );
  }

  /** KVM has seen SERIALIZED: the vCPU's VMCS is in memory, and the guest's registers are KVM's to read. */
  kvmTakesOver(lane: Lane): void {
    const { vcpu, pcpu } = lane;
    const isCurrent = pcpu.vmx.current?.regionPa === vcpu.vmcsRegion;
    if (isCurrent) this.#fail(lane, 'preserved', 'KVM saw SERIALIZED before VMCLEAR of the VMCS');
    if (vcpu.ccbView.number('registers_valid') !== 1)
      this.#fail(lane, 'preserved', "KVM saw SERIALIZED before the guest's registers were valid");
  }

  readRecord(lane: Lane, at: number): void {
    const bytes = this.machine.memory.read(BigInt(at), CARETAKER_STALL.sizeBytes);
    this.#records.push({ lane, at, bytes });
  }

  /** A vCPU has looked at its flag, or changed its state; memory is as it sees it. */
  #look(lane: Lane, { access, address }: WatchedAccess): void {
    const offset = toIndex(address) - lane.ccb;
    if (offset !== CCB.attach_state && offset !== CCB.state) return;
    const { ccbView } = lane.vcpu;
    const state = ccbView.number('state');
    const waits = state !== CARETAKER_RUN_STATE.RUNNING;
    if (offset === CCB.attach_state && access === 'read') {
      const isOld = ccbView.number('attach_state') === CARETAKER_ATTACH_STATE.KVM_DETACHED;
      if (waits && isOld) this.#waitsOnOldFlag.add(lane);
      else this.#waitsOnOldFlag.delete(lane);
    } else if (!waits) this.#waitsOnOldFlag.delete(lane);
  }

  #fail(lane: Lane, id: InvariantId, message: string): void {
    this.machine.ledger.fail(id, lane.rip, `${lane.describeExit()}: ${message}`, {
      rip: hex(lane.rip),
    });
  }
}
