/**
 * Where inputs are run: one VM with the payload under test, in several states to begin in.
 *
 * Source: CONTRACT ("Who flips, and when", "Stop and serialize"); DESIGN ("Snapshots").
 * Invariant: every input begins in the same state, to the byte and the tick; what it did is judged by all invariants and
 * by the executable specification, as in any run.
 * Not modelled: kexec within an input, which changes what a payload finds in memory and not what it may do; an
 * asynchronous detach.
 */
import { HarnessBug, unreachable } from '../../abi/errors.js';
import { EXIT_REASON } from '../../abi/exit-reasons.js';
import { INTR_INFO, INTR_TYPE } from '../../abi/interruption.js';
import { u64 } from '../../abi/uint.js';
import { parseElf } from '../../loader/elf.js';
import type { GuestExit } from '../guest/guest.js';
import { ScriptGuest } from '../guest/script.js';
import { CCB_RULE } from '../host/kvm/ccb-rule.js';
import { isolate, leaveVmx, requestStop } from '../host/kvm/vcpu-run.js';
import type { KvmVm } from '../host/kvm/vm.js';
import { Conductor } from '../machine/conductor.js';
import type { ExitObserver } from '../machine/hooks.js';
import type { Lane } from '../machine/lane.js';
import type { Machine } from '../machine/machine.js';
import { raise } from '../machine/stray-events.js';
import type { MachineSnapshot } from '../machine/snapshot.js';
import type { Scenario } from '../machine/scenario/schema.js';
import type { Finding } from '../vmx/stop-reason.js';
import { changeConfiguration } from './configure.js';
import type { FuzzInput, Op } from './input.js';
import { legalExit } from './legal.js';

/** A VM to begin in. */
interface Variant {
  readonly name: string;
  readonly settings: Pick<Scenario, 'cr3' | 'hlt' | 'lifecycle'>;
}

// prettier-ignore
const VARIANTS: readonly Variant[] = [
  { name: 'isolated', settings: { lifecycle: 'interpose', cr3: 'isolated', hlt: 'ACTIVITY' } },
  { name: 'shared', settings: { lifecycle: 'interpose', cr3: 'shared-until-detach', hlt: 'ACTIVITY' } },
  { name: 'halts in root', settings: { lifecycle: 'interpose', cr3: 'isolated', hlt: 'ROOT' } },
];
/** Exits of the measured mix before an input begins. */
const WARM_UP_EXITS = 40;
/** Longest that an op may take: one that waits longer waits for something that the input has not brought. */
const OP_TICKS = 2_000_000;
/** Steps of the machine, the warm-up's among them, after which an input makes no progress: an op takes a handful. */
const MAX_STEPS = 5_000;
const VCPU = 0;
/** Lower vectors are exceptions' and reserved: nobody programs a device with one. */
const LOWEST_INTERRUPT = 32;

/** What one input did. */
export interface Execution {
  /** Broken invariants, without repetitions. */
  readonly findings: readonly Finding[];
  /** Exits that the payload was entered for. */
  readonly exits: number;
}

/** One state to begin in. */
interface Base {
  readonly stage: Stage;
  readonly snapshot: MachineSnapshot;
  readonly name: string;
}

/** A machine with its VM, and what an input does to it. */
class Stage {
  readonly conductor: Conductor;
  readonly machine: Machine;
  readonly lane: Lane;
  readonly vm: KvmVm;
  readonly #name: string;

  constructor(payload: Uint8Array, variant: Variant, seed: number) {
    this.#name = variant.name;
    const conductor = new Conductor(
      {
        name: `fuzz: ${variant.name}`,
        description: 'a VM for inputs to begin in',
        seed,
        vcpus: 1,
        mix: 'busy',
        rate: 3600,
        ...variant.settings,
        steps: [{ run: { exits: WARM_UP_EXITS, script: [] } }],
      },
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
    this.#settle();
    // What the warm-up did is not an input's.
    this.machine.ledger.clear();
  }

  /** The states to begin in: as KVM left it, and alone. */
  bases(): readonly Base[] {
    const attached = {
      stage: this,
      name: `${this.#name}, attached`,
      snapshot: this.machine.snapshot(),
    };
    this.#detach();
    this.#settle();
    return [
      attached,
      { stage: this, name: `${this.#name}, detached`, snapshot: this.machine.snapshot() },
    ];
  }

  /** Does one thing, as far as it is possible in the state at hand. */
  take(op: Op): void {
    const { machine, lane } = this;
    switch (op.kind) {
      case 'exit':
        if (op.basic !== EXIT_REASON.EXIT_REASON_EXTERNAL_INTERRUPT) {
          this.#exit(legalExit(op));
          return;
        }
        // Acknowledged on exit: only the core's own local APIC can have delivered it.
        this.#interrupt(op.interruption?.[0] ?? 0);
        break;
      case 'interrupt':
        this.#interrupt(op.vector);
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
        if (op.attached) this.#attach();
        else this.#detach();
        break;
      case 'stop':
        if (lane.phase !== 'in-kvm') requestStop(this.vm, lane.vcpu);
        break;
      case 'configure':
        changeConfiguration(machine.memory, lane.vcpu, op);
        return;
      default:
        unreachable(op);
    }
    this.#settle();
  }

  /** KVM comes back, so that whatever still waits is seen to be released, and the accounts are compared. */
  finish(): void {
    this.#attach();
    this.#settle();
    // KVM or its VMM has ended the vCPU: nothing more is owed to it.
    if (this.lane.phase === 'stopped') return;
    this.machine.hooks.atEnd(this.lane, this.machine.ledger);
  }

  #exit(exit: GuestExit): void {
    const { machine, lane } = this;
    if (lane.phase !== 'guest') return;
    const before = lane.exit.sequence;
    const vectoring = exit.idtVectoringInfo ?? 0;
    // An interrupt in delivery was asserted before.
    if (isExternal(vectoring)) lane.interrupts.assert(vectoring & 0xff, machine.now());
    machine.guests.script(lane, { kind: 'exit', after: 0, exit });
    machine.runUntil(
      () => lane.exit.sequence > before && lane.phase !== 'payload',
      machine.now() + OP_TICKS,
    );
  }

  #interrupt(vector: number): void {
    raise(this.machine, this.lane, {
      kind: 'interrupt',
      vector: Math.max(LOWEST_INTERRUPT, vector & 0xff),
    });
  }

  /** Runs until the vCPU is back in the guest, or can do nothing more by itself. */
  #settle(): void {
    const { machine, lane } = this;
    machine.runUntil(() => lane.phase === 'guest' && !this.#isEventDue(), machine.now() + OP_TICKS);
  }

  #isEventDue(): boolean {
    const { pcpu } = this.lane;
    return pcpu.pendingNmi || pcpu.pendingMachineCheck || pcpu.apic.deliverable >= 0;
  }

  /** New routing pointers and epoch, then the flag; a kick brings a vCPU that waits for nothing else. */
  #attach(): void {
    const { vcpu } = this.lane;
    if (vcpu.isAttached) return;
    vcpu.attach(this.vm.routingOf(vcpu));
    vcpu.state = 'running';
    this.machine.kick(vcpu.id);
  }

  /** Stopped in KVM first, as the contract has it; a vCPU that does not come stays where it is. */
  #detach(): void {
    const { machine, lane, vm } = this;
    const { vcpu } = lane;
    if (!vcpu.isAttached || !machine.stopVcpu(vcpu.id).ok) return;
    leaveVmx(vm, vcpu);
    isolate(vm, vcpu);
  }
}

const isExternal = (info: number): boolean =>
  info >>> 31 === 1 && (info & INTR_INFO.TYPE_MASK) === INTR_TYPE.EXT_INTR << INTR_INFO.TYPE_SHIFT;

/** The payload under test in every state to begin in. */
export class Arena {
  readonly #bases: readonly Base[];
  readonly #observers: ExitObserver[] = [];
  readonly #linkedCcb: bigint;
  #stage: Stage;

  constructor(payload: Uint8Array, seed: number) {
    this.#bases = VARIANTS.flatMap((variant) => new Stage(payload, variant, seed).bases());
    this.#linkedCcb = parseElf(payload, CCB_RULE).ccb.address;
    this.#stage = this.#bases[0]!.stage;
  }

  /** The state that an input begins in, in words. */
  baseName(input: FuzzInput): string {
    return this.#baseOf(input).name;
  }

  /** How many states there are to begin in. */
  get baseCount(): number {
    return this.#bases.length;
  }

  /** Sees the first outcome of every exit from now on. */
  observe(observer: ExitObserver): void {
    this.#observers.push(observer);
    for (const { stage } of this.#bases)
      if (!stage.machine.hooks.observers.includes(observer))
        stage.machine.hooks.observers.push(observer);
  }

  /** Does something that no observer sees. */
  silently<T>(work: () => T): T {
    const stages = new Set(this.#bases.map(({ stage }) => stage));
    for (const { machine } of stages) machine.hooks.observers.length = 0;
    try {
      return work();
    } finally {
      for (const { machine } of stages) machine.hooks.observers.push(...this.#observers);
    }
  }

  /** What relocation added to the addresses in the file. */
  get loadBias(): bigint {
    return u64(this.lane.vcpu.ccb - this.#linkedCcb);
  }

  /** The host side of the last execution. */
  get conductor(): Conductor {
    return this.#stage.conductor;
  }

  /** The machine of the last execution, as that left it. */
  get machine(): Machine {
    return this.#stage.machine;
  }

  get lane(): Lane {
    return this.#stage.lane;
  }

  /** Runs an input from its base; `onOp` sees each op before it is done. */
  run(input: FuzzInput, onOp?: (op: Op, index: number) => void): Execution {
    const { stage, snapshot } = this.#baseOf(input);
    this.#stage = stage;
    stage.machine.restore(snapshot);
    stage.lane.engine.coverage.fill(0);
    const before = stage.lane.exit.sequence;
    for (const [index, op] of input.ops.entries()) {
      onOp?.(op, index);
      stage.take(op);
      if (stage.lane.phase === 'stopped' || !stage.machine.ledger.clean) break;
    }
    if (stage.machine.ledger.clean && stage.lane.phase !== 'stopped') stage.finish();
    return {
      findings: stage.machine.ledger.findings.slice(),
      exits: stage.lane.exit.sequence - before,
    };
  }

  #baseOf({ base }: FuzzInput): Base {
    return this.#bases[base % this.#bases.length]!;
  }
}
