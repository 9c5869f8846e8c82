/**
 * One vCPU as the machine runs it: its core, its guest, the exit at hand, and what the invariants look at.
 *
 * Source: DESIGN ("One VM exit, as the data flows").
 * Invariant: a lane is in one phase; only the machine moves it. What changes in a run is in state().
 */
import { printExitReason } from '../../abi/exit-reasons.js';
import { CARETAKER_REQUEST } from '../../abi/ccb.js';
import { CARETAKER_SOFT_STATE } from '../../abi/soft-state.js';
import { offsetsOf } from '../../abi/layout.js';
import { VECTOR } from '../../abi/interruption.js';
import { PIN } from '../../abi/vmx-controls.js';
import { hex, joinHalves } from '../../abi/uint.js';
import { VMCS_SLOT } from '../../abi/vmcs-fields.js';
import { apicPageOffset, X2APIC } from '../../abi/x2apic.js';
import type { Engine } from '../cpu/engine.js';
import type { LoggedAccess } from '../cpu/port.js';
import { REG, type RegisterName } from '../cpu/registers.js';
import type { Guest, GuestAction } from '../guest/guest.js';
import type { Pcpu } from '../vmx/pcpu.js';
import { PostedDescriptor } from '../vmx/posted-descriptor.js';
import type { Vmcs } from '../vmx/vmcs.js';
import { ticksPerCount, timerExpiresAt } from '../vmx/preemption-timer.js';
import type { KvmVcpu } from '../host/kvm/vcpu.js';
import type { PagesName } from '../host/kvm/vcpu-memory.js';
import { AT_EXIT, ExitRecord, GENERAL_WORDS, RUN } from './exit-record.js';
import { GroundTruth, type GroundTruthState } from './ground-truth.js';
import { HostStateMark, type HostStateMarkState } from './host-state-mark.js';
import { InterruptAccount, type InterruptAccountState } from './interrupt-account.js';
import type { Loot } from './loot.js';
import type { MachineMemory } from './memory.js';
import type { Remains } from './remains.js';
import type { PlannedEvent } from './stray-events.js';

/** Where a vCPU is. */
export type LanePhase =
  /** KVM has not run it, or keeps it. */
  | 'in-kvm'
  /** The core is in VMX non-root operation. */
  | 'guest'
  /** The core executes the payload. */
  | 'payload'
  /** The payload polls, and nothing it polls has changed. */
  | 'waiting'
  /** The core is halted in VMX root operation. */
  | 'halted'
  /** The payload parked the core, or the vCPU cannot go on. */
  | 'stopped';

/** A lane as plain data; what is not in it is made once, or follows from the rest. */
export interface LaneState extends Pick<
  Lane,
  | 'vcpu'
  | 'pcpu'
  | 'engine'
  | 'phase'
  | 'exit'
  | 'run'
  | 'action'
  | 'actionTsc'
  | 'timerTsc'
  | 'waitBeganTsc'
  | 'pollTicks'
  | 'counted'
  | 'poll'
  | 'inExit'
  | 'handlerEnd'
  | 'isTimerDisarmed'
  | 'loot'
> {
  readonly guest: unknown;
  readonly truth: GroundTruthState;
  readonly host: HostStateMarkState;
  readonly interrupts: InterruptAccountState;
  readonly scripted: readonly GuestAction[];
  readonly planned: readonly PlannedEvent[];
  readonly accesses: readonly LoggedAccess[];
}

const NO_ACCESSES: readonly LoggedAccess[] = [];

/** Byte offsets in memory of what KVM gave a vCPU. */
interface Places {
  readonly ccb: number;
  readonly telemetry: number;
  readonly config: number;
  readonly softState: number;
  readonly stack: number;
  /** 0 where there is none. */
  readonly shadowStack: number;
}

function placesOf(vcpu: KvmVcpu, memory: MachineMemory): Places {
  const at = (what: PagesName): number => memory.offset(vcpu.memory.at(what));
  return {
    ccb: memory.offset(vcpu.ccb),
    telemetry: at('telemetry'),
    config: at('config'),
    softState: at('softState'),
    stack: at('stack'),
    shadowStack: vcpu.memory.has('shadowStack') ? at('shadowStack') : 0,
  };
}

export class Lane {
  readonly id: number;
  readonly memory: MachineMemory;
  readonly vcpuCount: number;
  pcpu: Pcpu;
  engine: Engine;
  guest: Guest;
  phase: LanePhase = 'in-kvm';
  /** The exit at hand, or the last one. */
  exit = new ExitRecord();
  /** The last call of the payload's run entry. */
  readonly run = new ExitRecord();
  readonly truth = new GroundTruth();
  /** What the exit at hand must leave as it is. */
  readonly host = new HostStateMark();
  readonly interrupts = new InterruptAccount();
  /** What the guest is about to do, and when; null while it is not in the guest. */
  action: GuestAction | null = null;
  actionTsc = Infinity;
  /** Actions that a scenario wants before the guest's own. */
  readonly scripted: GuestAction[] = [];
  /** Events that wait for an instruction of an exit, the earliest first. */
  readonly planned: PlannedEvent[] = [];
  /** Kept of a vCPU that has ended, with its pages freed. */
  remains: Remains | null = null;
  /** TSC at which the VMX-preemption timer expires, Infinity when it is off. */
  timerTsc = Infinity;
  /** TSC at which the wait at hand began, NaN before the first. */
  waitBeganTsc = NaN;
  /** Ticks between two polls of the wait at hand. */
  pollTicks = 1;
  /** Counters of telemetry at the exit, for nmi and telemetry. */
  readonly counted = { nmis: 0, machine_checks: 0, stray_interrupts: 0 };
  /** Ticks that a stall record may differ from the wait: the polls and handlers around it. */
  readonly stallTolerance = 2_000;
  /** The last PAUSE: a poll is in vain when nothing but the TSC differs from the one before. */
  readonly poll = {
    site: -1n,
    /** PAUSEs at this site without one elsewhere. */
    count: 0,
    stores: NaN,
    rdtscs: NaN,
    tsc: NaN,
    isVain: false,
    words: new Uint32Array(GENERAL_WORDS),
  };
  /** The VMCS that the engine answers from. */
  boundVmcs: Vmcs | null = null;
  /** Whether the payload has been entered for an exit whose outcome is not known. */
  inExit = false;
  /** The fault that is being raised comes from the scenario, and not from what the payload does. */
  faultIsForced = false;
  /** No other core acts while a handler of this one runs; where it does, what that is about to do is not known. */
  actsAlone = true;
  /** Instruction count at which the handler at hand is given up; null between two handlers. */
  handlerEnd: number | null = null;

  constructor(
    vcpu: KvmVcpu,
    pcpu: Pcpu,
    engine: Engine,
    guest: Guest,
    memory: MachineMemory,
    vcpuCount: number,
  ) {
    this.id = vcpu.id;
    this.#vcpu = vcpu;
    this.pcpu = pcpu;
    this.engine = engine;
    this.guest = guest;
    this.memory = memory;
    this.vcpuCount = vcpuCount;
    this.#places = placesOf(vcpu, memory);
  }

  /** The vCPU as the kernel of the day knows it. */
  get vcpu(): KvmVcpu {
    return this.#vcpu;
  }
  set vcpu(vcpu: KvmVcpu) {
    if (vcpu === this.#vcpu) return;
    this.#vcpu = vcpu;
    this.findPages();
  }

  /** KVM has given the vCPU other pages. */
  findPages(): void {
    this.#places = placesOf(this.#vcpu, this.memory);
  }

  /** Whether a VMCS is current on the lane's core: a payload may have cleared it. */
  get hasVmcs(): boolean {
    return this.pcpu.vmx.current !== null;
  }

  /** The current VMCS of the lane's core, which has one. */
  get vmcs(): Vmcs {
    return this.pcpu.vmx.current!;
  }

  get ccb(): number {
    return this.#places.ccb;
  }
  get telemetry(): number {
    return this.#places.telemetry;
  }
  get config(): number {
    return this.#places.config;
  }
  get softState(): number {
    return this.#places.softState;
  }
  get stack(): number {
    return this.#places.stack;
  }
  get shadowStack(): number {
    return this.#places.shadowStack;
  }

  /** RIP in the payload. */
  get rip(): bigint {
    return this.pcpu.registers.values[REG.RIP]!;
  }

  /** For messages: which exit of which vCPU, or behind which exit it was run. */
  describeExit(): string {
    const { basic, sequence, wasAttached } = this.exit;
    const state = wasAttached ? 'attached' : 'detached';
    const what = basic === RUN ? 'run' : printExitReason(basic);
    return `vCPU ${this.id} exit ${sequence} ${what} (${state})`;
  }

  /** Whether the vCPU is over for a reason that has been said, or that nobody could help. */
  get hasEnded(): boolean {
    return this.phase === 'stopped' && this.exit.mayEnd;
  }

  registerAtExit(name: RegisterName): string {
    const at = 2 * REG[name];
    return hex(joinHalves(this.exit.registers[at + 1]!, this.exit.registers[at]!));
  }

  /** Whether the next VM entry injects a hardware exception other than the one that the exit interrupted. */
  injectsFault(): boolean {
    const info = this.vmcs.words[2 * VMCS_SLOT.VM_ENTRY_INTR_INFO_FIELD]!;
    if (((info ^ this.exit.low(AT_EXIT.IDT_VECTORING_INFO_FIELD)) & ~(1 << 12)) === 0) return false;
    return info >>> 31 === 1 && ((info >>> 8) & 7) === 3;
  }

  /** KVM is about to take back what it asks for. */
  noteRequestEnds(): void {
    if (this.vcpu.ccbView.number('request') === CARETAKER_REQUEST.STOP)
      this.exit.requestEnded = true;
  }

  /** A 64-bit field of KVM's page of the CCB. */
  kvmPageValue(offset: number): bigint {
    return this.memory.bytes.readU64(this.vcpu.ccb + BigInt(offset));
  }

  /** Forgets the watched accesses of the exit before. */
  beginAccesses(): void {
    this.engine.watch.forget();
    if (this.#accesses.length > 0) this.#accesses.length = 0;
  }

  /** Reads of KVM's page since the exit, in program order. */
  readsOfKvmPage(): readonly LoggedAccess[] {
    return this.#takeAccesses().filter((access) => access.kind === 'read');
  }

  /** Stores of the payload since the exit into bytes that are not its own. */
  foreignStores(): readonly LoggedAccess[] {
    if (!this.engine.watch.hasLoggedWrite) return NO_ACCESSES;
    return this.#takeAccesses().filter((access) => access.kind === 'write');
  }

  #takeAccesses(): readonly LoggedAccess[] {
    this.#accesses.push(...this.engine.watch.take());
    return this.#accesses;
  }

  /** Vectors asserted after their last delivery that nothing holds any more. */
  undelivered(): readonly { readonly vector: number; readonly sinceTsc: number }[] {
    return this.interrupts
      .due()
      .filter(({ vector }) => !this.#isPending(vector) && !this.isAtACore(vector));
  }

  /** Whether a vector waits for this vCPU: in the virtual IRR, posted, or about to be injected. */
  hasPending(vector: number): boolean {
    return this.#isPending(vector);
  }

  /** In the virtual IRR, posted, or being injected; the timer's while a deadline is armed or was taken back. */
  #isPending(vector: number): boolean {
    const soft = this.vcpu.softState;
    if (vector === VECTOR.NMI && soft.number('posted_nmi') + soft.number('virtual_nmi_pending') > 0)
      return true;
    const bit = 1n << BigInt(vector & 63);
    if ((soft.get(`irr[${vector >> 6}]`) & bit) !== 0n) return true;
    if ((soft.get(`posted[${vector >> 6}]`) & bit) !== 0n) return true;
    if (this.isPosted(vector) || this.isRequestedOfProcessor(vector)) return true;
    if (vector === this.timerVector) return soft.get('tsc_deadline') !== 0n || this.isTimerDisarmed;
    const injected = this.pcpu.vmx.current?.low(VMCS_SLOT.VM_ENTRY_INTR_INFO_FIELD) ?? 0;
    return injected >>> 31 === 1 && (injected & 0xff) === vector;
  }

  /** Whether a request is in the posted-interrupt descriptor, where nobody but a notification finds it. */
  isPosted(vector: number): boolean {
    return new PostedDescriptor(this.memory.bytes, this.vcpu.descriptorAddress).isRequested(vector);
  }

  /** In VIRR of the virtual-APIC page, which is 0 where the payload delivers interrupts. */
  isRequestedOfProcessor(vector: number): boolean {
    const virr = this.vcpu.memory.at('virtualApic') + BigInt(apicPageOffset(X2APIC.IRR0));
    const word = this.memory.bytes.readU32(virr + BigInt((vector >>> 5) * 16));
    return ((word >>> (vector & 31)) & 1) !== 0;
  }

  /** Whether another vCPU or a device has posted something that this one has not taken over yet. */
  get hasPosted(): boolean {
    const { words } = this.memory;
    const at = (this.softState + POSTED) >>> 2;
    for (let word = 0; word < POSTED_WORDS; word++) if (words[at + word] !== 0) return true;
    return false;
  }

  /** The vector that the guest's timer raises. */
  get timerVector(): number {
    return this.memory.words[(this.softState + LVT_TIMER) >>> 2]! & 0xff;
  }

  /** Host TSC of the guest's armed deadline, or null. */
  deadlineTsc(): number | null {
    const at = (this.softState + TSC_DEADLINE) >>> 2;
    const low = this.memory.words[at]!;
    const high = this.memory.words[at + 1]!;
    return low === 0 && high === 0 ? null : low + high * 0x1_0000_0000 - this.tscOffset;
  }

  /** Host TSC at which the preemption timer would expire if the guest were entered now. */
  timerAtEntry(): number {
    const { words } = this.vmcs;
    if ((words[2 * VMCS_SLOT.PIN_BASED_VM_EXEC_CONTROL]! & PIN.PREEMPTION_TIMER) === 0)
      return Infinity;
    return timerExpiresAt(
      this.pcpu.now(),
      words[2 * VMCS_SLOT.VMX_PREEMPTION_TIMER_VALUE]!,
      this.timerShift,
    );
  }

  /** Ticks of one count of the preemption timer, and the instructions between reading the TSC and VM entry. */
  get timerGranularity(): number {
    return ticksPerCount(this.timerShift) + INSTRUCTIONS_AFTER_TIMER;
  }

  get timerShift(): number {
    return this.pcpu.capabilities.preemptionTimerShift;
  }

  /** Guest TSC less host TSC. */
  tscOffset = 0;
  /** True frequency of the TSC. */
  tscFrequencyHz = 0;
  /** What its payload is after, from the beginning of an attack until it is through. */
  loot: Loot | null = null;
  /** The guest wrote 0 to its TSC deadline last. */
  isTimerDisarmed = false;
  /** All vCPUs of its VM. */
  peers: () => readonly Lane[] = () => [];
  /** The VM that the vCPU is of. */
  vmId = 0;
  /** Whether a device's interrupt that becomes this vector is still at a core that has not taken it, or not answered it. */
  isAtACore: (vector: number) => boolean = () => false;
  /** The page of guest memory that its device writes, null without one. */
  dmaPage: () => number | null = () => null;
  /** Whether an address is KHO-preserved and outside scratch; the machine knows. */
  isPreserved: (address: bigint) => boolean = () => false;
  /** Where this vCPU's pages are; KVM does not move them while it has the vCPU. */
  #places: Places;
  #vcpu: KvmVcpu;
  readonly #accesses: LoggedAccess[] = [];

  state(): LaneState {
    return {
      vcpu: this.vcpu,
      pcpu: this.pcpu,
      engine: this.engine,
      guest: this.guest.state(),
      phase: this.phase,
      exit: new ExitRecord().copyFrom(this.exit),
      run: new ExitRecord().copyFrom(this.run),
      truth: this.truth.state(),
      host: this.host.state(),
      interrupts: this.interrupts.state(),
      action: this.action,
      actionTsc: this.actionTsc,
      scripted: this.scripted.slice(),
      planned: this.planned.slice(),
      timerTsc: this.timerTsc,
      waitBeganTsc: this.waitBeganTsc,
      pollTicks: this.pollTicks,
      counted: { ...this.counted },
      poll: { ...this.poll, words: this.poll.words.slice() },
      inExit: this.inExit,
      handlerEnd: this.handlerEnd,
      isTimerDisarmed: this.isTimerDisarmed,
      loot: this.loot,
      accesses: this.#accesses.slice(),
    };
  }

  /** Goes back to a state; which VMCS the engine answers from stays what it is until the next run. */
  restore(state: LaneState): void {
    this.vcpu = state.vcpu;
    this.pcpu = state.pcpu;
    if (this.engine !== state.engine) this.boundVmcs = null;
    this.engine = state.engine;
    this.guest.restore(state.guest);
    this.phase = state.phase;
    this.exit.copyFrom(state.exit);
    this.run.copyFrom(state.run);
    this.truth.restore(state.truth);
    this.host.restore(state.host);
    this.interrupts.restore(state.interrupts);
    this.action = state.action;
    this.actionTsc = state.actionTsc;
    this.scripted.splice(0, Infinity, ...state.scripted);
    this.planned.splice(0, Infinity, ...state.planned);
    this.timerTsc = state.timerTsc;
    this.waitBeganTsc = state.waitBeganTsc;
    this.pollTicks = state.pollTicks;
    Object.assign(this.counted, state.counted);
    const { words, ...poll } = state.poll;
    Object.assign(this.poll, poll);
    this.poll.words.set(words);
    this.inExit = state.inExit;
    this.handlerEnd = state.handlerEnd;
    this.isTimerDisarmed = state.isTimerDisarmed;
    this.loot = state.loot;
    this.#accesses.splice(0, Infinity, ...state.accesses);
  }
}

const {
  tsc_deadline: TSC_DEADLINE,
  posted: POSTED,
  lvt_timer: LVT_TIMER,
} = offsetsOf<'tsc_deadline' | 'posted' | 'lvt_timer'>(CARETAKER_SOFT_STATE);
/** posted[4] and posted_nmi behind it. */
const POSTED_WORDS = 9;
/** A payload computes the timer's value before it restores the guest's registers. */
const INSTRUCTIONS_AFTER_TIMER = 400;
