/**
 * What KVM asks of the machine: its cores, time for a vCPU to arrive, and what the machine must know of a vCPU's life.
 *
 * Source: host/kvm/ports.ts; Linux virt/kvm/kvm_main.c: kvm_vcpu_kick().
 * Invariant: a vCPU has one lane from its first run on, whichever kernel has it and whichever core it is on.
 */
import { HarnessBug } from '../../abi/errors.js';
import { toIndex } from '../../abi/uint.js';
import type { KvmCpu, KvmMachine } from '../host/kvm/ports.js';
import type { KvmVcpu } from '../host/kvm/vcpu.js';
import { NOTIFICATION_VECTOR, type KvmVm } from '../host/kvm/vm.js';
import { DONE, refuse, type Result } from '../host/result.js';
import type { VmxCapabilities } from '../vmx/capabilities.js';
import { initAndStart } from './cores.js';
import { Lane } from './lane.js';
import type { Machine } from './machine.js';
import { callPayload } from './payload-call.js';
import { endLane } from './remains.js';

/** Longest time that a stopped vCPU may take to arrive in KVM. */
const STOP_TIMEOUT_SECONDS = 1;

export class KvmHost implements KvmMachine {
  readonly #machine: Machine;

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  get capabilities(): VmxCapabilities {
    return this.#machine.capabilities;
  }
  get tscFrequencyHz(): number {
    return this.#machine.tscFrequencyHz;
  }

  get firstVcpuCpu(): number {
    return this.#machine.threadsPerCore;
  }

  cpu(id: number): KvmCpu {
    const machine = this.#machine;
    const core = machine.core(id);
    return Object.assign(core.pcpu, {
      call: (entry: bigint, rdi: bigint, top: bigint, cr3: bigint) =>
        callPayload(core, machine.memory, {
          entry,
          rdi,
          stackTop: top,
          cr3,
          returnTo: machine.kvm?.kernel.image.address('vmx_vmexit') ?? 0n,
        }),
    });
  }

  now(): number {
    return this.#machine.now();
  }

  tablesChanged(): void {
    this.#machine.tablesChanged();
  }

  codePlaced(base: bigint, sizeBytes: number): void {
    this.#machine.codePlaced(base, sizeBytes);
  }

  kick(vcpuId: number): void {
    this.#machine.lane(vcpuId).pcpu.apic.request(NOTIFICATION_VECTOR);
  }

  waitFor(holds: () => boolean): boolean {
    const limitTsc = this.now() + STOP_TIMEOUT_SECONDS * this.tscFrequencyHz;
    return this.#machine.runUntil(holds, limitTsc);
  }

  stopVcpu(vcpuId: number): Result<void> {
    const lane = this.#machine.lane(vcpuId);
    if (lane.phase === 'in-kvm') return DONE;
    if (lane.phase === 'stopped') return refuse('ETIMEDOUT');
    lane.vcpu.stopRequested = true;
    this.kick(vcpuId);
    const hasArrived = this.waitFor(() => (lane.phase as string) === 'in-kvm');
    return hasArrived ? DONE : refuse('ETIMEDOUT');
  }

  reclaimCore(id: number): Result<void> {
    if (!initAndStart(this.#machine.core(id).pcpu)) return refuse('ETIMEDOUT');
    this.#machine.count('coresReclaimed');
    const lane = this.#machine.laneOn(id);
    if (lane !== undefined) lane.inExit = false;
    return DONE;
  }

  vcpuAdopted(vcpuId: number): void {
    const { hooks, ledger } = this.#machine;
    const { vm, vcpu } = this.#find(vcpuId);
    const lane = this.#machine.lane(vcpuId);
    const before = lane.vcpu;
    lane.vcpu = vcpu;
    hooks.atAdopt(lane, ledger, before);
    lane.pcpu.routingAddresses.add(vm.kernel.routingHandler);
    this.kick(vcpuId);
  }

  vcpuTakesOver(vcpuId: number): void {
    const { hooks, ledger } = this.#machine;
    const lane = this.#machine.lane(vcpuId);
    lane.findPages();
    hooks.beforeTakeOver(lane, ledger);
  }

  vcpuTookOver(vcpuId: number): void {
    const { hooks, ledger } = this.#machine;
    hooks.atTakeOver(this.#machine.lane(vcpuId), ledger);
  }

  vcpuTerminated(vcpuId: number): void {
    const machine = this.#machine;
    const lane = machine.lane(vcpuId);
    endLane(lane, machine.now());
    machine.hooks.atEnd(lane, machine.ledger);
    machine.structureChanged();
    machine.count('vcpusTerminated');
    machine.timeline.add(machine.now(), vcpuId, 'terminated: no kernel adopts its VM', 3);
  }

  vcpuStarted(vcpuId: number): void {
    const machine = this.#machine;
    const { vm, vcpu } = this.#find(vcpuId);
    const lane = machine.lanes.find((one) => one.id === vcpuId) ?? this.#addLane(vm, vcpu);
    lane.vcpu = vcpu;
    // It may have another instance than before.
    lane.findPages();
    machine.moveLane(lane, vcpu.pcpu);
    lane.pcpu.clock.advanceTo(machine.now());
    lane.pcpu.routingAddresses.add(vm.kernel.routingHandler);
    lane.phase = 'payload';
    machine.runToEntry(lane);
  }

  #addLane(vm: KvmVm, vcpu: KvmVcpu): Lane {
    const machine = this.#machine;
    const { pcpu, engine } = machine.core(vcpu.pcpu);
    const guest = machine.guestOf(vcpu.id);
    const lane = new Lane(vcpu, pcpu, engine, guest, machine.machineMemory, machine.config.vcpus);
    lane.tscOffset = toIndex(vm.settings.tscOffset);
    lane.tscFrequencyHz = machine.tscFrequencyHz;
    lane.vmId = vm.id;
    lane.dmaPage = () => machine.completions?.page ?? null;
    lane.isAtACore = (vector) => machine.isAtACore(vcpu.id, vector);
    lane.isPreserved = (address) => machine.isPreserved(address);
    machine.addLane(lane);
    return lane;
  }

  #find(vcpuId: number): { readonly vm: KvmVm; readonly vcpu: KvmVcpu } {
    const found = this.#machine.kvm?.findVcpu(vcpuId);
    if (found === undefined) throw new HarnessBug(`no KVM of this kernel has vCPU ${vcpuId}`);
    return found;
  }
}
