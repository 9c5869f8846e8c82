/**
 * One VM with a payload on its vCPU, ready for whatever is done to it: exits, events, attachment, time.
 *
 * Source: CONTRACT ("Who flips, and when", "Stop and serialize"); DESIGN ("Snapshots").
 * Invariant: what a stage is led through is what KVM, a guest and the hardware may do; whatever cannot be done in the
 * state at hand changes nothing.
 * Not modelled: kexec, which changes what a payload finds in memory and not what it may do.
 */
import { HarnessBug, unreachable } from '../../abi/errors.js';
import { EXIT_REASON } from '../../abi/exit-reasons.js';
import { decodeInterruption, INTR_TYPE } from '../../abi/interruption.js';
import type { GuestAction, GuestExit } from '../guest/guest.js';
import { ScriptGuest } from '../guest/script.js';
import { isolate, leaveVmx, requestStop } from '../host/kvm/vcpu-run.js';
import type { KvmVm } from '../host/kvm/vm.js';
import { Conductor } from '../machine/conductor.js';
import type { Lane } from '../machine/lane.js';
import type { Machine } from '../machine/machine.js';
import { raise } from '../machine/stray-events.js';
import type { MachineSnapshot } from '../machine/snapshot.js';
import { pendingDebugTraps } from '../vmx/events.js';
import { makeHostImage } from '../vmx/host-image.js';
import { toScenario, type Scenario } from '../machine/scenario/schema.js';
import { changeConfiguration } from './configure.js';
import type { Op } from './input.js';
import { legalExit } from './legal.js';

/** A VM to begin in. */
export interface Variant {
  readonly name: string;
  readonly settings: Pick<Scenario, 'cr3' | 'hlt' | 'lifecycle'>;
}

// prettier-ignore
/** The VMs that there are. */
export const VARIANTS: readonly Variant[] = [
  { name: 'isolated', settings: { lifecycle: 'interpose', cr3: 'isolated', hlt: 'ACTIVITY' } },
  { name: 'shared', settings: { lifecycle: 'interpose', cr3: 'shared-until-detach', hlt: 'ACTIVITY' } },
  { name: 'halts in root', settings: { lifecycle: 'interpose', cr3: 'isolated', hlt: 'ROOT' } },
];
/** The other life cycle: HOST_RIP is KVM's own while it is attached, so that only a detached vCPU has a payload to try. */
export const ATTACH_VARIANT: Variant = {
  name: 'attach',
  settings: { lifecycle: 'attach', cr3: 'isolated', hlt: 'ACTIVITY' },
};
/** Exits of the measured mix before an input begins. */
const WARM_UP_EXITS = 40;
/** Longest that an op may take: one that waits longer waits for something that the input has not brought. */
const OP_TICKS = 2_000_000;
/** Steps of the machine, the warm-up's among them, after which an input makes no progress: an op takes a handful. */
const MAX_STEPS = 5_000;
const VCPU = 0;
/** Lower vectors are exceptions' and reserved: nobody programs a device with one. */
const LOWEST_INTERRUPT = 32;

/** One state to begin in. */
export interface Base {
  readonly stage: Stage;
  readonly snapshot: MachineSnapshot;
  readonly name: string;
}

/** A machine with its VM, and what an input does to it. */
export class Stage {
  readonly conductor: Conductor;
  readonly machine: Machine;
  readonly lane: Lane;
  readonly vm: KvmVm;
  readonly #name: string;

  constructor(payload: Uint8Array, variant: Variant, seed: number) {
    this.#name = variant.name;
    const conductor = new Conductor(
      toScenario(
        {
          name: `fuzz: ${variant.name}`,
          description: 'a VM for inputs to begin in',
          seed,
          vcpus: 1,
          ...variant.settings,
          steps: [{ run: { exits: WARM_UP_EXITS } }],
        },
        variant.name,
      ),
      payload,
      false,
      { maxSteps: MAX_STEPS },
    );
    conductor.run();
    this.conductor = conductor;
    this.machine = conductor.machine;
    this.lane = this.machine.lane(VCPU);
    const found = this.machine.kvm?.findVcpu(VCPU);
    if (found === undefined) throw new HarnessBug('the VM has no vCPU to fuzz');
    this.vm = found.vm;
    // From here on the guest does what inputs say, and nothing else.
    this.lane.guest = new ScriptGuest([]);
    this.lane.action = { kind: 'wait' };
    this.lane.actionTsc = Infinity;
    this.settle();
    // What the warm-up did is not an input's.
    this.machine.ledger.clear();
  }

  /** The states to begin in: as KVM left it, and alone. */
  bases(): readonly Base[] {
    const attached = this.#base('attached');
    this.#detach();
    this.settle();
    return [attached, this.#base('detached')];
  }

  #base(state: string): Base {
    const { vmcs } = this.lane;
    // Derived from the VMCS: made here once, and not by every input.
    vmcs.hostImage ??= makeHostImage(vmcs);
    return { stage: this, name: `${this.#name}, ${state}`, snapshot: this.machine.snapshot() };
  }

  /** Does one thing, as far as it is possible in the state at hand. */
  take(op: Op): void {
    const { machine, lane } = this;
    switch (op.kind) {
      case 'exit':
        if (op.basic !== EXIT_REASON.EXIT_REASON_EXTERNAL_INTERRUPT) {
          this.exit(legalExit(op));
          return;
        }
        // Acknowledged on exit: only the core's own local APIC can have delivered it.
        this.interrupt(op.interruption?.[0] ?? 0);
        break;
      case 'interrupt':
        this.interrupt(op.vector);
        break;
      case 'nmi':
        raise(machine, lane, { kind: 'nmi' });
        break;
      case 'machine-check':
        raise(machine, lane, { kind: 'machine-check', restartable: (op.status & 1) !== 0 });
        break;
      case 'time':
        machine.runFor(op.mantissa * 2 ** op.exponent);
        return;
      case 'flip':
        if (op.attached) this.attach();
        else this.#detach();
        break;
      case 'stop':
        this.requestStop();
        break;
      case 'configure':
        changeConfiguration(machine.memory, lane.vcpu, op);
        return;
      default:
        unreachable(op);
    }
    this.settle();
  }

  /** KVM comes back, so that whatever still waits is seen to be released, and the accounts are compared. */
  finish(): void {
    // A vCPU that runs its guest waits for nothing.
    const isResting = this.lane.phase === 'guest' && this.lane.planned.length === 0;
    if (!isResting || this.#isEventDue()) this.attach();
    this.settle();
    // KVM or its VMM has ended the vCPU: nothing more is owed to it.
    if (this.lane.phase === 'stopped') return;
    this.machine.hooks.atEnd(this.lane, this.machine.ledger);
  }

  /** The guest exits, and the payload deals with that until the vCPU has left it or waits in it. */
  exit(exit: GuestExit): void {
    const { machine, lane } = this;
    // What is pending, a debug trap or an interrupt, comes before whatever the guest does next.
    if (lane.phase === 'guest' && this.#isEventDue()) this.settle();
    if (lane.phase !== 'guest') return;
    const vectoring = exit.idtVectoringInfo ?? 0;
    // An interrupt or an NMI in delivery was asserted before.
    if (isAsserted(vectoring)) this.#beginDelivery(vectoring);
    machine.guests.script(lane, { kind: 'exit', after: 0, exit });
    // An event that comes first leaves the exit with other fields.
    const isAhead = (action: GuestAction | null): boolean =>
      action?.kind === 'exit' &&
      action.exit.basic === exit.basic &&
      action.exit.registers === exit.registers;
    machine.runUntil(
      () => !isAhead(lane.action) && !lane.scripted.some(isAhead) && lane.phase !== 'payload',
      machine.now() + OP_TICKS,
    );
  }

  /** An interrupt whose delivery the next exit breaks off is in service by then. */
  #beginDelivery(info: number): void {
    const { vcpu, interrupts } = this.lane;
    const vector = info & 0xff;
    interrupts.assert(vector, this.machine.now());
    if (decodeInterruption(info).type !== INTR_TYPE.EXT_INTR) return;
    const word = `isr[${vector >> 6}]`;
    vcpu.softState.set(word, vcpu.softState.get(word) | (1n << BigInt(vector & 63)));
  }

  /** A physical interrupt arrives at the core. */
  interrupt(vector: number): void {
    raise(this.machine, this.lane, {
      kind: 'interrupt',
      vector: Math.max(LOWEST_INTERRUPT, vector & 0xff),
    });
  }

  /** Runs until the vCPU is back in the guest, or can do nothing more by itself. */
  settle(): void {
    const { machine, lane } = this;
    machine.runUntil(() => lane.phase === 'guest' && !this.#isEventDue(), machine.now() + OP_TICKS);
  }

  #isEventDue(): boolean {
    const { pcpu, vmcs } = this.lane;
    return (
      pendingDebugTraps(vmcs) !== 0 ||
      pcpu.pendingNmi ||
      pcpu.pendingMachineCheck ||
      pcpu.pendingInit ||
      pcpu.apic.deliverable >= 0
    );
  }

  /** New routing pointers and epoch, then the flag; a kick brings a vCPU that waits for nothing else. */
  attach(): void {
    const { vcpu } = this.lane;
    if (vcpu.isAttached) return;
    this.lane.noteRequestEnds();
    vcpu.attach(this.vm.routingOf(vcpu));
    vcpu.state = 'running';
    this.machine.kvmHost.kick(vcpu.id);
  }

  /** KVM asks the payload to stop, unless the vCPU is in KVM already. */
  requestStop(): void {
    if (this.lane.phase !== 'in-kvm') requestStop(this.vm.machine, this.lane.vcpu);
  }

  /** Stopped in KVM first, as the contract has it; a vCPU that does not come stays where it is. */
  #detach(): void {
    const { machine, lane, vm } = this;
    const { vcpu } = lane;
    if (!vcpu.isAttached || !machine.kvmHost.stopVcpu(vcpu.id).ok) return;
    leaveVmx(vm, vcpu);
    isolate(vm, vcpu);
  }
}

const isAsserted = (info: number): boolean => {
  const { type, valid } = decodeInterruption(info);
  return valid && (type === INTR_TYPE.EXT_INTR || type === INTR_TYPE.NMI_INTR);
};
