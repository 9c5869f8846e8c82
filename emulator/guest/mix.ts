/**
 * A guest that follows a measured mix of exit reasons, with the registers and timers that such exits need.
 *
 * Source: facts on real guests' exits (bcc kvmexit samples of a busy, a light and an idle vCPU); Linux guests' use of
 * TSC_DEADLINE, HLT and the x2APIC ICR.
 * Invariant: the sequence depends on the seed and on what the guest sees, never on how an exit is answered in time.
 * Not modelled: the guest's code; between two exits its general registers hold random values, so that a register
 * which a payload does not restore is seen at once.
 */
import { EXIT_REASON } from '../../abi/exit-reasons.js';
import { VECTOR } from '../../abi/interruption.js';
import { MSR } from '../../abi/msrs.js';
import { X2APIC } from '../../abi/x2apic.js';
import { Random, type RandomState } from '../clock/random.js';
import * as exits from './exits.js';
import type { Guest, GuestAction, GuestExit, GuestView } from './guest.js';

/** Reasons a mix can name; the two hardware events come true through the timer and a device. */
export type MixReason =
  | 'MSR_WRITE'
  | 'HLT'
  | 'EPT_MISCONFIG'
  | 'PREEMPTION_TIMER'
  | 'EXTERNAL_INTERRUPT'
  | 'IO_INSTRUCTION'
  | 'EOI_INDUCED'
  | 'PAUSE_INSTRUCTION'
  | 'CPUID'
  | 'EPT_VIOLATION'
  | 'MSR_READ'
  | 'RDTSC'
  | 'VMCALL';

/** Reasons that are a matter of the nested page tables, and the one that comes from a device. */
type MemoryReason = 'EPT_MISCONFIG' | 'EPT_VIOLATION' | 'EXTERNAL_INTERRUPT';

/** Weights by reason; they need not add up to anything. */
export type Mix = Readonly<Partial<Record<MixReason, number>>>;

/** A busy vCPU: 21,880 exits in 6 s. */
// prettier-ignore
export const BUSY: Mix = {
  MSR_WRITE: 6870, HLT: 2760, EPT_MISCONFIG: 170, PREEMPTION_TIMER: 90, EXTERNAL_INTERRUPT: 80, IO_INSTRUCTION: 11,
  EOI_INDUCED: 5, PAUSE_INSTRUCTION: 5, CPUID: 5, EPT_VIOLATION: 3,
};

/** The busy mix without the reasons that block while KVM is detached: what is left once devices are paused. */
// prettier-ignore
export const BUSY_GAP: Mix = {
  MSR_WRITE: 6870, HLT: 2760, PREEMPTION_TIMER: 90, EXTERNAL_INTERRUPT: 80, PAUSE_INSTRUCTION: 5, CPUID: 5,
};

/** A light VM: 3,303 exits in 6 s. */
// prettier-ignore
export const LIGHT: Mix = {
  MSR_WRITE: 6680, HLT: 2990, EPT_MISCONFIG: 190, EXTERNAL_INTERRUPT: 50, PREEMPTION_TIMER: 40, IO_INSTRUCTION: 30,
  EOI_INDUCED: 15,
};

/** An idle guest: its timer and HLT. */
export const IDLE: Mix = { MSR_WRITE: 500, HLT: 500 };

export const MIXES = { busy: BUSY, 'busy-gap': BUSY_GAP, light: LIGHT, idle: IDLE } as const;
export type MixName = keyof typeof MIXES;

/** CPUID leaves that a running Linux asks for, some of them past the highest. */
// prettier-ignore
const CPUID_ASKED: readonly (readonly [number, number])[] = [
  [0x0, 0], [0x1, 0], [0x7, 0], [0x7, 1], [0xb, 0], [0xb, 1], [0xd, 0], [0xd, 1], [0x15, 0], [0x4000_0000, 0],
  [0x8000_0000, 0], [0x8000_0008, 0], [0x0000_0077, 0],
];

const RESCHEDULE_VECTOR = 0xfd;
/** One MSR write in so many is an IPI: each is an external interrupt at its receiver, and few of those were measured. */
const IPI_EVERY = 64;
/** Deadlines are up to so many exits away: most are armed anew before they pass, as the few timer exits measured say. */
const DEADLINE_SPAN = 128;
/** One halt in so many lasts until the guest's own timer. */
const TIMER_WAKES_EVERY = 32;
/** Guest-physical page of an emulated device. */
export const DOORBELL = 0xfe00_3000n;
const SERIAL_PORT = 0x3f8;
/** Vectors below are exceptions, which nobody EOIs. */
const FIRST_INTERRUPT_VECTOR = 32;
/** From the delivery of an NMI to the IRET of the guest's handler, in TSC ticks. */
const NMI_HANDLER_TICKS = 4_000;

/** What a mix needs to know of the machine it runs in. */
export interface MixSettings {
  readonly mix: Mix;
  readonly seed: number;
  /** Mean ticks between two exits of an active guest. */
  readonly meanTicks: number;
  /** x2APIC ids of the other vCPUs; empty for one alone. */
  readonly otherApicIds: readonly number[];
  /** Vectors that this guest's devices raise at its core. */
  readonly deviceVectors: readonly number[];
  /** Pages of guest-physical memory from 0 on. */
  readonly memoryPages: number;
  /** TSC ticks from the delivery of an interrupt to its EOI; without, the EOI is some later write of an MSR. */
  readonly handlerTicks?: number | undefined;
}

interface MixState {
  readonly random: RandomState;
  readonly owedEois: number;
  readonly interruptible: boolean;
  readonly inNmiHandler: boolean;
  readonly settings: MixSettings;
}

export class MixGuest implements Guest {
  readonly #random: Random;
  #settings: MixSettings;
  #reasons: readonly MixReason[] = [];
  #thresholds: readonly number[] = [];
  /** Interrupts taken whose EOI the guest has not written yet. */
  #owedEois = 0;
  #interruptible = true;
  #inNmiHandler = false;

  constructor(settings: MixSettings) {
    this.#settings = settings;
    this.#random = new Random(settings.seed);
    this.follow(settings.mix, settings.meanTicks);
  }

  /** Goes on with another mix: a phase of the scenario has begun. */
  follow(mix: Mix, meanTicks: number): void {
    this.#settings = { ...this.#settings, mix, meanTicks };
    const rows = Object.entries(mix) as [MixReason, number][];
    let sum = 0;
    this.#reasons = rows.map(([reason]) => reason);
    this.#thresholds = rows.map(([, weight]) => (sum += weight));
  }

  onEvent(vector: number): void {
    if (vector === VECTOR.NMI) this.#inNmiHandler = true;
    if (vector >= FIRST_INTERRUPT_VECTOR) this.#owedEois++;
  }

  handle(vector: number): GuestAction | null {
    const { handlerTicks } = this.#settings;
    if (handlerTicks === undefined || vector < FIRST_INTERRUPT_VECTOR) return null;
    this.#owedEois--;
    return { kind: 'exit', after: handlerTicks, exit: exits.wrmsr(X2APIC.EOI, 0) };
  }

  next(view: GuestView): GuestAction {
    if (this.#inNmiHandler) {
      this.#inNmiHandler = false;
      return { kind: 'iret', after: NMI_HANDLER_TICKS };
    }
    const after = this.#delay();
    if (view.isHalted) return this.#whileHalted(view, after);
    return this.#act(this.#draw(), view, after);
  }

  state(): MixState {
    return {
      random: this.#random.state(),
      owedEois: this.#owedEois,
      interruptible: this.#interruptible,
      inNmiHandler: this.#inNmiHandler,
      settings: this.#settings,
    };
  }

  restore(state: MixState): void {
    this.#random.restore(state.random);
    this.#owedEois = state.owedEois;
    this.#interruptible = state.interruptible;
    this.#inNmiHandler = state.inNmiHandler;
    if (state.settings !== this.#settings)
      this.follow(state.settings.mix, state.settings.meanTicks);
    this.#settings = state.settings;
  }

  /** Most halted guests are woken by a passed-through device without an exit; the rest by their own timer. */
  #whileHalted(view: GuestView, after: number): GuestAction {
    if (view.hasDeadline && this.#random.below(TIMER_WAKES_EVERY) === 0) return { kind: 'wait' };
    return { kind: 'wake', after };
  }

  #act(reason: MixReason, view: GuestView, after: number): GuestAction {
    if (reason === 'EXTERNAL_INTERRUPT') {
      return { kind: 'interrupt', after, vector: this.#pick(this.#settings.deviceVectors) };
    }
    if (reason === 'PREEMPTION_TIMER' && view.hasDeadline) return { kind: 'wait' };
    if (reason === 'EPT_MISCONFIG') return this.#touch(DOORBELL, after);
    if (reason === 'EPT_VIOLATION')
      return this.#touch(BigInt(this.#random.below(this.#settings.memoryPages)) << 12n, after);
    return { kind: 'exit', after, exit: this.#withFlags(this.#exit(reason, view)) };
  }

  /** A store, which exits where the nested page tables say so: a device's page always, the guest's own memory once a page. */
  #touch(gpa: bigint, after: number): GuestAction {
    const fields = this.#flags(false);
    return { kind: 'access', after, access: exits.store(gpa), pages: 1, fields };
  }

  #exit(reason: Exclude<MixReason, MemoryReason>, view: GuestView): GuestExit {
    switch (reason) {
      case 'MSR_WRITE':
        return this.#msrWrite(view);
      case 'PREEMPTION_TIMER':
        return this.#armDeadline(view);
      case 'MSR_READ':
        return exits.rdmsr(MSR.IA32_TSC_DEADLINE);
      case 'HLT':
        return exits.hlt();
      case 'IO_INSTRUCTION':
        return exits.out(SERIAL_PORT);
      case 'EOI_INDUCED':
        return exits.eoiInduced(0x30 + this.#random.below(16));
      case 'PAUSE_INSTRUCTION':
        return exits.pause();
      case 'CPUID':
        return exits.cpuid(...this.#pick(CPUID_ASKED));
      case 'RDTSC':
        return exits.rdtsc();
      case 'VMCALL':
        return exits.vmcall();
    }
  }

  /** An owed EOI first, as a handler would; else a timer, or now and then an IPI. */
  #msrWrite(view: GuestView): GuestExit {
    if (this.#owedEois > 0) {
      this.#owedEois--;
      return exits.wrmsr(X2APIC.EOI, 0);
    }
    const { otherApicIds } = this.#settings;
    if (otherApicIds.length > 0 && this.#random.below(IPI_EVERY) === 0) {
      const destination = this.#pick(otherApicIds) * 0x1_0000_0000;
      return exits.wrmsr(X2APIC.ICR, destination + RESCHEDULE_VECTOR);
    }
    return this.#armDeadline(view);
  }

  #armDeadline(view: GuestView): GuestExit {
    const { meanTicks } = this.#settings;
    const ticks = 1 + this.#random.below(DEADLINE_SPAN) * meanTicks + this.#random.below(meanTicks);
    return exits.wrmsr(MSR.IA32_TSC_DEADLINE, view.tsc + ticks);
  }

  /** A guest runs with interrupts off now and then, for one exit; the window opens with the next. HLT is after STI. */
  #withFlags(exit: GuestExit): GuestExit {
    const fields = this.#flags(exit.basic === EXIT_REASON.EXIT_REASON_HLT);
    return fields === undefined ? exit : { ...exit, fields: { ...exit.fields, ...fields } };
  }

  #flags(isHalt: boolean): GuestExit['fields'] {
    const off = this.#interruptible && !isHalt && this.#random.below(64) === 0;
    if (off === !this.#interruptible) return undefined;
    this.#interruptible = !off;
    return { GUEST_RFLAGS: off ? 0x2n : 0x202n };
  }

  #draw(): MixReason {
    const drawn = this.#random.below(this.#thresholds.at(-1) ?? 1);
    let row = 0;
    while (drawn >= this.#thresholds[row]!) row++;
    return this.#reasons[row]!;
  }

  /** Between a half and one and a half of the mean. */
  #delay(): number {
    return (this.#settings.meanTicks >>> 1) + this.#random.below(this.#settings.meanTicks);
  }

  #pick<Item>(items: readonly Item[]): Item {
    return items[this.#random.below(items.length)]!;
  }
}
