/**
 * vCPUs as actors: each runs its payload up to and with the next instruction that others can see, and no further.
 *
 * Source: DESIGN ("Exact points"); the watchpoints and breakpoints of the engine.
 * Invariant: between two steps every core stands behind an instruction that touched something shared, or waits; what it
 * executes in between is its own. What the invariants look at when they judge an exit counts as touched there.
 * Not modelled: KVM's handling of a routed exit in steps of its own; it is one step, before which the core's stores are
 * visible.
 */
import { CARETAKER_CCB } from '../../../abi/ccb.js';
import { EXIT_REASON } from '../../../abi/exit-reasons.js';
import { offsetsOf } from '../../../abi/layout.js';
import { toIndex } from '../../../abi/uint.js';
import { X2APIC_FIRST, X2APIC_LAST } from '../../../abi/x2apic.js';
import { readForm, type InstructionForm } from '../../cpu/instruction-format.js';
import { REG } from '../../cpu/registers.js';
import { writesMemory } from '../../cpu/sweep.js';
import type { DebugHook } from '../../machine/debug-hook.js';
import type { Lane } from '../../machine/lane.js';
import type { Machine } from '../../machine/machine.js';
import { nextTscOf } from '../../machine/wake.js';
import type { StopReason, WatchedAccess } from '../../vmx/stop-reason.js';
import { isFence, isLocked, readsAndWrites } from './fences.js';
import { apic, bytes, currentVmcs, wholeBuffer, type Access, type Footprint } from './footprint.js';
import { postedOf, sharedOf } from './shared-pages.js';
import type { SharedMemory } from './shared-memory.js';

const LONGEST_INSTRUCTION = 15;
const RFLAGS_IF = 0x200;
/** A guest's shadow of STI ends one tick after entry. */
const SHADOW_TICKS = 1;
const CCB = offsetsOf<'attach_state' | 'request'>(CARETAKER_CCB);
/** Where the machine judges an exit by the flag and the request as they are then. */
const JUDGED_AT: ReadonlySet<string> = new Set(['VMRESUME', 'VMLAUNCH', 'PAUSE']);
/** Where interrupts are let in, or a core begins to wait for them. */
const OPENS: ReadonlySet<string> = new Set(['STI', 'HLT', 'CLI', 'POPF']);

/** What an actor's last read of a field told, for whoever looks after it. */
export type SeesAccess = (actor: number, access: WatchedAccess) => void;

export class VcpuActors implements DebugHook {
  readonly lanes: readonly Lane[];
  readonly #machine: Machine;
  readonly #shared: SharedMemory;
  /** Plain stores stay in a store buffer; without, all but those of unlocked read-modify-writes are visible at once. */
  readonly #isTso: boolean;
  readonly #onAccess: SeesAccess;
  readonly #breakpoints: ReadonlySet<bigint>;
  /** An instruction that drains the buffer is next. */
  readonly #waitsForBuffer: boolean[];
  #running = -1;
  #isFree = true;
  /** The core stands behind an instruction that others can see. */
  #isBehind = false;
  /** Instructions executed when the last boundary was asked about: a breakpoint is told once more before it is passed. */
  #siteAt = NaN;
  #wasInExit = false;
  #hasBuffered = false;
  #isPublic = false;
  #touched: Access[] = [];

  constructor(
    machine: Machine,
    lanes: readonly Lane[],
    shared: SharedMemory,
    isTso: boolean,
    onAccess: SeesAccess,
  ) {
    this.#machine = machine;
    this.lanes = lanes;
    this.#shared = shared;
    this.#isTso = isTso;
    this.#onAccess = onAccess;
    this.#waitsForBuffer = lanes.map(() => false);
    this.#breakpoints = new Set(lanes.flatMap((lane) => this.#stopAtSites(lane)));
    this.#watch(true);
  }

  /** All cores stand where the machine's snapshot has them. */
  reset(): void {
    this.#waitsForBuffer.fill(false);
    this.#isFree = false;
  }

  /** Lets the engines go as they were. */
  dispose(): void {
    this.#watch(false);
    for (const { engine } of this.lanes)
      for (const place of this.#breakpoints) engine.clearBreakpoint(place);
  }

  #watch(isOn: boolean): void {
    const on = { read: isOn, write: isOn };
    for (const { engine } of this.lanes)
      for (const { from, sizeBytes } of this.#shared.ranges)
        engine.watch.stopAt(BigInt(from), sizeBytes, on);
  }

  /** From now on the machine runs the cores without a stop. */
  release(): void {
    this.#isFree = true;
  }

  isEnabled(actor: number): boolean {
    if (this.#waitsForBuffer[actor]! && this.#shared.hasBuffered(actor)) return false;
    const lane = this.lanes[actor]!;
    if (isPaused(lane)) return true;
    const now = lane.pcpu.now();
    if (lane.phase !== 'waiting') return nextTscOf(lane, now) <= now + SHADOW_TICKS;
    // What the payload says of itself decides what it waits for.
    if (this.#shared.hasBuffered(actor)) this.#shared.show(actor);
    const isWoken = nextTscOf(lane, now) < Infinity;
    if (this.#shared.hasBuffered(actor)) this.#shared.hide();
    return isWoken;
  }

  /** Runs one core behind its next instruction that others can see; what it touched. */
  step(actor: number): Footprint {
    const lane = this.lanes[actor]!;
    const shared = this.#shared;
    const isArriving = !isPaused(lane) && (lane.phase === 'guest' || lane.phase === 'halted');
    // The exit itself: the machine notes the flag, the core acknowledges what it takes.
    this.#touched = isArriving ? [apic(lane.pcpu.id), ...judgedBy(lane)] : [];
    this.#isBehind = isArriving;
    this.#siteAt = NaN;
    this.#running = actor;
    this.#wasInExit = lane.inExit;
    this.#hasBuffered = false;
    this.#isPublic = false;
    const hadBuffered = shared.hasBuffered(actor);
    if (hadBuffered) shared.show(actor);
    this.#machine.step(lane);
    this.#machine.paused = null;
    if (this.#isPublic) shared.drained(actor);
    else if (hadBuffered || this.#hasBuffered) shared.hide();
    return this.#touched;
  }

  atBoundary(lane: Lane): number {
    if (this.#isFree) return Infinity;
    // The jump's own load of the handler may be the instruction that others can see.
    if (this.#wasInExit && !lane.inExit) {
      this.#tookByKvm(lane);
      return 0;
    }
    const { instructions } = lane.engine.counters;
    if (this.#isBehind && instructions !== this.#siteAt) return 0;
    this.#siteAt = instructions;
    const isOpen = (lane.pcpu.registers.words[2 * REG.RFLAGS]! & RFLAGS_IF) !== 0;
    if (isOpen) this.#touched.push(apic(lane.pcpu.id));
    else if (!this.#breakpoints.has(lane.rip)) return Infinity;
    return this.#atSite(lane, isOpen) ? 1 : 0;
  }

  /** The instruction at RIP is executed alone; false when it waits for the store buffer. */
  #atSite(lane: Lane, isOpen: boolean): boolean {
    const form = this.#formAt(lane, lane.rip);
    const ecx = lane.pcpu.registers.words[2 * REG.RCX]!;
    const isDrain = form !== null && isFence(form, ecx);
    if (isDrain) {
      this.#waitsForBuffer[this.#running] = this.#shared.hasBuffered(this.#running);
      if (this.#waitsForBuffer[this.#running]!) return false;
      if (this.#isTso) this.#touched.push(wholeBuffer(this.#running));
    }
    const before = this.#touched.length;
    const name = lane.engine.siteAt(lane.rip)?.instruction.name;
    if (name !== undefined) this.#touchAt(lane, name, ecx);
    // A locked instruction is seen by the watch on its bytes, if they are shared.
    this.#isBehind = isOpen || this.#touched.length > before || (isDrain && this.#isTso);
    return true;
  }

  #touchAt(lane: Lane, name: string, ecx: number): void {
    if (JUDGED_AT.has(name)) this.#touched.push(...judgedBy(lane));
    else if (name === 'VMCLEAR') this.#touched.push(currentVmcs(lane.pcpu.id));
    else if (OPENS.has(name)) this.#touched.push(apic(lane.pcpu.id));
    else if ((name === 'WRMSR' || name === 'RDMSR') && ecx >= X2APIC_FIRST && ecx <= X2APIC_LAST) {
      // A message may reach any core; judging the sender looks at what they hold.
      for (const { pcpu } of this.lanes) this.#touched.push(apic(pcpu.id));
    }
  }

  watched(lane: Lane, access: WatchedAccess): void {
    if (this.#isFree) return;
    const actor = this.#running;
    const at = toIndex(access.address);
    const form = this.#formAt(lane, access.rip);
    const isStore = access.access === 'write' || (form !== null && writesMemory(form));
    const isBuffered =
      isStore && form !== null && !isLocked(form) && (this.#isTso || readsAndWrites(form));
    this.#isBehind = true;
    this.#onAccess(actor, access);
    if (!isBuffered) {
      this.#touched.push(bytes(at, access.sizeBytes, isStore));
      if (isStore) this.#isPublic = true;
      return;
    }
    if (readsAndWrites(form)) this.#touched.push(bytes(at, access.sizeBytes, false));
    this.#touched.push(this.#shared.buffer(actor, at, access.sizeBytes));
    this.#hasBuffered = true;
    // Outside TSO the second half of an unlocked read-modify-write comes before the core's next instruction.
    this.#waitsForBuffer[actor] = !this.#isTso;
  }

  hasBreakpoint(address: bigint): boolean {
    return this.#breakpoints.has(address);
  }
  entryRefused(): void {
    // The boundary behind it is told by itself.
  }
  left(lane: Lane, stop: StopReason): void {
    if (!this.#isFree && stop.kind === 'routed') this.#tookByKvm(lane);
  }

  /** KVM has handled an exit: its vCPU's pages and core, and those of whoever it may have posted an interrupt to. */
  #tookByKvm(lane: Lane): void {
    this.#wasInExit = false;
    this.#isPublic = true;
    const mayPost = MAY_POST.has(lane.exit.basic);
    for (const one of this.lanes) {
      if (one !== lane && !mayPost) continue;
      this.#touched.push(apic(one.pcpu.id));
      for (const { from, sizeBytes } of one === lane ? sharedOf(one) : [postedOf(one)])
        this.#touched.push(bytes(from, sizeBytes, true));
    }
  }

  #formAt(lane: Lane, rip: bigint): InstructionForm | null {
    const code = lane.memory.bytes.read(rip, LONGEST_INSTRUCTION);
    return readForm(code, 0, code.length);
  }

  /** Stops the engine before each instruction of an instance that others can see without an access to memory. */
  #stopAtSites({ engine, vcpu }: Lane): readonly bigint[] {
    const text = vcpu.ranges.filter(({ executable }) => executable);
    const isIn = (address: bigint): boolean =>
      text.some(({ base, sizeBytes }) => address >= base && address < base + BigInt(sizeBytes));
    const sites = engine
      .sites()
      .filter(({ address, instruction }) => isIn(address) && SEEN.has(instruction.name))
      .map(({ address }) => address);
    // ECX tells at the instruction whether a WRMSR drains.
    const fences = text.flatMap(({ base, sizeBytes }) =>
      engine.findInstructions(base, sizeBytes, (form) => isFence(form, 0)),
    );
    const places = [...new Set([...sites, ...fences])];
    for (const place of places) engine.setBreakpoint(place);
    return places;
  }
}

/** What the machine looks at when it judges an exit. */
const judgedBy = ({ ccb }: Lane): Footprint => [
  bytes(ccb + CCB.attach_state, 4, false),
  bytes(ccb + CCB.request, 4, false),
];

/** Exits of which KVM may make an interrupt for another vCPU: an IPI, a device's interrupt. */
const MAY_POST: ReadonlySet<number> = new Set([
  EXIT_REASON.EXIT_REASON_MSR_WRITE,
  EXIT_REASON.EXIT_REASON_EXTERNAL_INTERRUPT,
  EXIT_REASON.EXIT_REASON_EXCEPTION_NMI,
]);

/** Whether a core stopped in the middle of a handler, whatever it did when that began. */
const isPaused = ({ handlerEnd }: Lane): boolean => handlerEnd !== null;

const SEEN: ReadonlySet<string> = new Set([...JUDGED_AT, ...OPENS, 'WRMSR', 'RDMSR', 'VMCLEAR']);
