/**
 * A scenario as it is played: the machine, the kernels on it, a VMM, a luo-agent, and the steps in their order.
 *
 * Happy path: boot, create VM and vCPUs, install the Caretaker on each vcpufd, KVM_RUN, then the steps, which
 * conductor/steps.ts has.
 *
 * Source: the RFC, "Preservation of the vCPU".
 * Invariant: every call of a process goes through descriptors, as a process would make it.
 */
import { VfioBus } from '../host/handlers/vfio.js';
import type { IntegrityPolicy } from '../host/integrity/admission.js';
import type { Process } from '../host/process.js';
import { Attacks, compromisedPayload } from './conductor/attacks.js';
import { ByHand } from './conductor/by-hand.js';
import { GuestLoad } from './conductor/guest-load.js';
import { Kernels } from './conductor/kernels.js';
import { ConductorError, outOfOrder, placed } from './conductor/refusal.js';
import { take } from './conductor/steps.js';
import type { IncomingSession, OutgoingSession } from './conductor/update-session.js';
import { DEVICE, QUEUE_VECTORS, Vmm } from './conductor/vmm.js';
import { Completions, type CompletionQueue } from './completions.js';
import type { Lane } from './lane.js';
import { Machine, type MachineConfig } from './machine.js';
import type { Scenario, Step } from './scenario/schema.js';
import type { ScriptEntry } from './scenario/script.js';
import { vmsOf, type VmPlan } from './scenario/vms.js';
import { toAction } from './scripted-exit.js';
import { plan, raise } from './stray-events.js';
import type { PhaseName, Weight } from './timeline.js';

export { ConductorError } from './conductor/refusal.js';

/** The gap as the report has it. */
export interface Gap {
  readonly tscStart: number;
  tscEnd: number;
}

/** How a run is made that is no matter of the scenario. */
export interface ConductorSettings extends Pick<MachineConfig, 'pollsEveryTime' | 'maxSteps'> {
  /** Keyring, lockdown and IMA policy of every kernel. */
  readonly integrity?: IntegrityPolicy;
}

const ONCE = { times: 1, every: 0, stride: 0 };

export class Conductor {
  readonly machine: Machine;
  readonly scenario: Scenario;
  readonly kernels: Kernels;
  readonly load: GuestLoad;
  readonly byHand = new ByHand(this);
  readonly attacks: Attacks;
  /** Those whose VMs were not terminated. */
  vmms: readonly Vmm[];
  outgoing: readonly OutgoingSession[] = [];
  incoming: readonly IncomingSession[] = [];
  gap: Gap | null = null;
  readonly payload: Uint8Array;
  #agent: Process | null = null;
  /** What the step at hand does from where its vCPUs run; null for a step that has no such end. */
  #rest: (() => void) | null = null;

  constructor(
    scenario: Scenario,
    payload: Uint8Array,
    wantsSlices: boolean,
    settings: ConductorSettings = {},
  ) {
    this.scenario = scenario;
    this.payload = payload;
    const { vcpus, seed } = scenario;
    const { integrity, ...own } = settings;
    const threadsPerCore = scenario['threads-per-core'];
    const machine = new Machine({ ...own, vcpus, seed, threadsPerCore, wantsSlices });
    this.machine = machine;
    this.load = new GuestLoad(scenario, machine.tscFrequencyHz);
    machine.irqRoutes = [DEVICE, ...queueRoutes(scenario)];
    this.attacks = new Attacks(machine);
    machine.guestOf = (id) => this.load.guestOf(id);
    const bus = new VfioBus([DEVICE.id]);
    machine.completions = new Completions(machine, () => bus.device(DEVICE.id)!);
    this.kernels = new Kernels(machine, bus, { scenario, integrity }, (event, weight) =>
      this.say(event, weight),
    );
    this.vmms = vmsOf(scenario).map((plan) => new Vmm(this.kernels, plan));
  }

  /** Takes all steps. @throws ConductorError. */
  run(): void {
    const { machine, scenario } = this;
    for (const vmm of this.vmms) {
      vmm.createVm(scenario, this.payloadOf(vmm.plan));
      vmm.bootGuest();
      vmm.run();
    }
    this.#startDevice();
    this.enter('attached');
    for (const { plan } of this.vmms) {
      const count = plan.vcpus.length;
      const vcpus = `${count} ${count === 1 ? 'vCPU' : 'vCPUs'}`;
      this.say(`${this.nameOf(plan)} with ${vcpus} runs, Caretaker on each vcpufd`, 3);
    }
    for (const [index, step] of scenario.steps.entries()) {
      machine.structureChanged();
      this.#rest = null;
      if (!this.byHand.isDone(step)) this.#take(step, index);
      this.byHand.takeWishes();
    }
    this.#end();
  }

  /** What is left of a step once the vCPUs run: a debugger that goes back from the end begins with it. */
  runRest(rest: () => void): void {
    this.#rest = rest;
    rest();
  }

  /** Whether the last step can be taken up where its vCPUs ran. */
  get hasRest(): boolean {
    return this.#rest !== null;
  }

  /** The rest of the last step once more, and the end, when the machine takes its loop up. @throws ConductorError. */
  runAgain(): void {
    this.#rest!();
    this.byHand.takeWishes();
    this.#end();
  }

  #end(): void {
    const { machine } = this;
    this.#tellCompletions();
    this.#tellThoseAlone();
    this.attacks.end();
    for (const lane of machine.lanes)
      if (lane.remains === null) machine.hooks.atEnd(lane, machine.ledger);
  }

  #take(step: Step, index: number): void {
    try {
      take(this, step);
    } catch (error) {
      throw error instanceof ConductorError ? placed(error, step, index) : error;
    }
  }

  /** That a run passes does not mean that anybody took the vCPUs back. */
  #tellThoseAlone(): void {
    const alone = this.machine.lanes.filter(({ vcpu }) => vcpu.state === 'detached').length;
    if (alone === 0) return;
    const vcpus = alone === 1 ? '1 vCPU runs' : `${alone} vCPUs run`;
    this.say(`the scenario ends in the gap: ${vcpus} alone, and no kernel has come back`, 3);
  }

  #tellCompletions(): void {
    const { queues } = this.machine.completions!;
    if (queues.length === 0) return;
    const sum = (of: (queue: CompletionQueue) => number): number =>
      queues.reduce((all, queue) => all + of(queue), 0);
    const slowest = Math.max(...queues.map(({ slowestTicks }) => slowestTicks));
    const ms = (slowest / this.machine.tscFrequencyHz) * 1000;
    this.say(
      `the device has completed ${sum(({ completed }) => completed)} I/Os, the guest has seen ${sum(({ seen }) => seen)}; the slowest by a vCPU that did not wait took ${ms.toFixed(3)} ms`,
      3,
    );
  }

  /** The guest's driver has set its queues up: from now on they complete I/O. */
  #startDevice(): void {
    const { device } = this.scenario;
    if (device === undefined) return;
    const [vmm] = this.vmms;
    vmm!.setInterrupts(device);
    const ofGuest = device.queues.map(({ vcpu, every }, index) => ({
      vcpuId: vcpu,
      guestVector: QUEUE_VECTORS.guest + index,
      everyTicks: this.ticks(every),
    }));
    this.machine.completions?.start(ofGuest, vmm!.completionCounts);
  }

  // What steps share.

  /** The first VM's. */
  get vmm(): Vmm {
    return this.vmms[0]!;
  }

  /** The VMM of a vCPU. @throws ConductorError when its VM was terminated. */
  vmmOf(vcpu: number): Vmm {
    const vmm = this.vmms.find(({ plan }) => plan.vcpus.includes(vcpu));
    if (vmm === undefined) throw outOfOrder('vcpu', `the VM of vCPU ${vcpu} is terminated`);
    return vmm;
  }

  /** The file that a VM's vCPUs get. @throws ConductorError PAYLOAD_MISSING. */
  payloadOf({ payload }: VmPlan): Uint8Array {
    return payload === 'given' ? this.payload : compromisedPayload();
  }

  /** A VM by its number, where there are several. */
  nameOf({ id }: VmPlan): string {
    return this.scenario.vms === undefined ? 'VM' : `VM ${id}`;
  }

  /** New VMMs, of the kernel that runs, for the VMs that there are. */
  spawnVmms(): void {
    this.vmms = this.vmms.map(({ plan }) => new Vmm(this.kernels, plan));
  }

  /** The VMM finds vCPUs that its kernel has left parked, and gives each another instance. @throws ConductorError. */
  restartParked(): void {
    for (const { id, vcpu } of this.machine.lanes) {
      if (vcpu.state !== 'parked') continue;
      const vmm = this.vmmOf(id);
      vmm.restart(id, this.payloadOf(vmm.plan));
      this.machine.count('parkedRestarted');
      this.say(`vCPU ${id} goes on with another instance of the Caretaker`, 3);
    }
  }

  /** The luo-agent of the kernel that runs. */
  agent(): Process {
    return (this.#agent ??= this.kernels.kernel.spawn('luo-agent'));
  }

  /** It went with its kernel. */
  forgetAgent(): void {
    this.#agent = null;
  }

  /** Lets a step's script happen, in times from now. @throws ConductorError. */
  schedule(script: readonly ScriptEntry[]): void {
    const { vcpus } = this.scenario;
    for (const entry of script) {
      if (entry.vcpu === 'all') {
        for (let vcpu = 0; vcpu < vcpus; vcpu++) this.#schedule({ ...entry, vcpu });
      } else this.#schedule({ ...entry, vcpu: entry.vcpu });
    }
  }

  #schedule(entry: ScriptEntry & { readonly vcpu: number }): void {
    const { machine } = this;
    const { times, every, stride } = entry.repeat ?? ONCE;
    const series = {};
    const begun = machine.now();
    // One waits at a time: there may be very many.
    const scheduleNth = (n: number): void => {
      const at = begun + this.ticks(entry.at + n * every);
      machine.events.schedule(at, () => {
        const lane = machine.lane(entry.vcpu);
        const { event, instruction } = entry;
        if (event === undefined || instruction === undefined) this.#happens(lane, entry);
        else plan(lane, { instruction: instruction + n * stride, event, series });
        if (n + 1 < times) scheduleNth(n + 1);
      });
    };
    scheduleNth(0);
  }

  /** Runs the vCPUs as Machine.runUntil() does, and takes what is asked of the host meanwhile. @throws ConductorError. */
  runUntil(done: () => boolean, limitTsc: number): boolean {
    const { machine } = this;
    for (;;) {
      const isDone = machine.runUntil(() => done() || machine.hostWishes.length > 0, limitTsc);
      if (!isDone || machine.hostWishes.length === 0) return isDone;
      this.byHand.takeWishes();
    }
  }

  /** Exits of all vCPUs so far, those that went past the payload too. */
  exits(): number {
    const throughPayload = this.machine.lanes.reduce((sum, lane) => sum + lane.truth.exits, 0);
    return throughPayload + (this.machine.evidence['exitsToKvmDirectly'] ?? 0);
  }

  ticks(seconds: number): number {
    return Math.round(seconds * this.machine.tscFrequencyHz);
  }

  enter(phase: PhaseName): void {
    this.machine.timeline.enter(this.machine.now(), phase);
  }

  say(event: string, weight: Weight): void {
    this.machine.timeline.add(this.machine.now(), null, event, weight);
  }

  #happens(lane: Lane, { exit, event, attack }: ScriptEntry): void {
    if (attack !== undefined) this.attacks.begin(lane, attack);
    if (exit !== undefined) this.machine.guests.script(lane, toAction(exit));
    else if (event !== undefined) raise(this.machine, lane, event);
  }
}

/** KVM's IRQ routing for the device's queues. */
function queueRoutes({ device }: Scenario): Machine['irqRoutes'] {
  return (device?.queues ?? []).flatMap(({ vcpu, routed }, index) =>
    routed
      ? [
          {
            hostVector: QUEUE_VECTORS.host + index,
            guestVector: QUEUE_VECTORS.guest + index,
            vcpuId: vcpu,
          },
        ]
      : [],
  );
}
