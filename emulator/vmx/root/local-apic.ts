/**
 * The local APIC of a pCPU in x2APIC mode: acceptance and priority of interrupts, ICR, EOI, local sources and timer.
 *
 * Source: SDM, "Local APIC", "Extended XAPIC (x2APIC)", "Error Handling".
 * Invariant: an access that x2APIC mode does not allow changes nothing and says so; time enters only through `now`.
 * Not modelled: xAPIC mode and its memory page, EOI-broadcast suppression, arbitration, remote IRR.
 */
import { HarnessBug, unreachable } from '../../../abi/errors.js';
import { ICR, ICR_DELIVERY, LVT, SIVR_ENABLE, X2APIC, x2apicAccess } from '../../../abi/x2apic.js';
import { high32, joinHalves, low32, u64 } from '../../../abi/uint.js';
import { ApicTimer, type ApicTimerMode, type ApicTimerState } from './apic-timer.js';
import { InterruptQueue, type InterruptQueueState } from './interrupt-queue.js';
import type { IpiMessage, IpiPort, IpiTarget } from './ipi-bus.js';
import { FIRST_LEGAL_VECTOR, logicalIdOf } from './ipi-destination.js';
import { LocalVectorTable } from './lvt.js';

/** What a local APIC tells the pCPU it belongs to. */
export interface LocalApicEvents {
  onNmi(): void;
  onInit(): void;
  onStartup(vector: number): void;
  onSmi(): void;
  /** An EOI; `vector` is null when nothing was in service. */
  onEoi(vector: number | null, isLevel: boolean): void;
}

/** Identity and clock ratio of a local APIC. */
export interface LocalApicConfig {
  readonly id: number;
  /** TSC ticks of one undivided count of the timer. */
  readonly timerTicksPerCount: number;
}

/** A local APIC as plain data. */
export interface LocalApicState {
  readonly queue: InterruptQueueState;
  readonly sivr: number;
  readonly errorStatus: number;
  readonly pendingErrors: number;
  readonly icr: bigint;
  readonly isSpurious: boolean;
  readonly lvt: Readonly<Record<number, number>>;
  readonly timer: ApicTimerState;
}

/** A local interrupt source, by the LVT register that describes it. */
export type LocalSource =
  | typeof X2APIC.LVT_CMCI
  | typeof X2APIC.LVT_THERMAL
  | typeof X2APIC.LVT_PMI
  | typeof X2APIC.LVT_LINT0
  | typeof X2APIC.LVT_LINT1;

const ESR_SEND_ILLEGAL_VECTOR = 1 << 5;
const ESR_RECEIVE_ILLEGAL_VECTOR = 1 << 6;
/** Version 0x15, seven LVT entries. */
const VERSION = 0x0006_0015;
const SIVR_RESET = 0xff;
const SIVR_DEFINED = 0x3ff;
const DIVIDE_DEFINED = 0xb;

/** Registers that stay as software has set them. */
const CONFIGURATION = [
  'SIVR',
  'LVT_CMCI',
  'LVT_TIMER',
  'LVT_THERMAL',
  'LVT_PMI',
  'LVT_LINT0',
  'LVT_LINT1',
  'LVT_ERROR',
  'TIMER_INITIAL',
  'TIMER_DIVIDE',
] as const satisfies readonly (keyof typeof X2APIC)[];

/** What an LVT entry's delivery mode sends. */
const LOCAL_MESSAGE: Readonly<Record<number, 'fixed' | 'smi' | 'nmi' | 'init'>> = {
  [ICR_DELIVERY.FIXED]: 'fixed',
  [ICR_DELIVERY.SMI]: 'smi',
  [ICR_DELIVERY.NMI]: 'nmi',
  [ICR_DELIVERY.INIT]: 'init',
};

export class LocalApic implements IpiTarget {
  readonly id: number;
  readonly logicalId: number;
  readonly #now: () => number;
  readonly #bus: IpiPort;
  readonly #events: LocalApicEvents;
  readonly #queue = new InterruptQueue();
  readonly #lvt = new LocalVectorTable();
  readonly #timer: ApicTimer;
  #sivr = SIVR_RESET;
  #errorStatus = 0;
  #pendingErrors = 0;
  #icr = 0n;
  #configurationWrites = 0;
  /** The processor was asked to take an interrupt that is not there any more. */
  #isSpurious = false;

  constructor(config: LocalApicConfig, now: () => number, bus: IpiPort, events: LocalApicEvents) {
    this.id = config.id;
    this.logicalId = logicalIdOf(config.id);
    this.#now = now;
    this.#bus = bus;
    this.#events = events;
    this.#timer = new ApicTimer(config.timerTicksPerCount);
  }

  get isEnabled(): boolean {
    return (this.#sivr & SIVR_ENABLE) !== 0;
  }

  /** The task-priority register; MOV CR8 moves its bits 7:4. */
  get tpr(): number {
    return this.#queue.tpr;
  }

  set tpr(value: number) {
    this.#queue.tpr = value & 0xff;
  }

  /** The processor-priority register. */
  get priority(): number {
    return this.#queue.priority;
  }

  /** The vector the processor would take now if IF allows, or -1. */
  get deliverable(): number {
    const vector = this.#queue.deliverable;
    return vector < 0 && this.#isSpurious ? this.#sivr & 0xff : vector;
  }

  /** The highest vector in service, or -1: what an EOI would end. */
  get highestInService(): number {
    return this.#queue.isr.highest();
  }

  isRequested(vector: number): boolean {
    return this.#queue.irr.has(vector);
  }

  isInService(vector: number): boolean {
    return this.#queue.isr.has(vector);
  }

  /** RDMSR of an index in the x2APIC range; undefined means #GP. */
  read(index: number): bigint | undefined {
    const access = x2apicAccess(index);
    if (access === 'none' || access === 'write-only') return undefined;
    return index === X2APIC.ICR ? this.#icr : u64(this.#readWord(index));
  }

  /** WRMSR of an index in the x2APIC range; false means #GP. */
  write(index: number, value: bigint): boolean {
    const access = x2apicAccess(index);
    if (access === 'none' || access === 'read-only') return false;
    if (index === X2APIC.ICR) return this.#writeIcr(low32(value), high32(value));
    return high32(value) === 0 && this.#writeWord(index, low32(value));
  }

  /** Writes of the registers that configuration() lists; equal counts mean equal values, timers that expire apart. */
  get configurationWrites(): number {
    return this.#configurationWrites;
  }

  /** What software has set up here: spurious vector, local vector table and timer, by name. */
  configuration(): ReadonlyMap<string, bigint> {
    const registers = CONFIGURATION.map(
      (name) => [name, u64(this.#readWord(X2APIC[name]))] as const,
    );
    return new Map([...registers, ['TSC_DEADLINE', this.#timer.deadline]]);
  }

  /** IA32_TSC_DEADLINE. */
  get deadline(): bigint {
    return this.#timer.deadline;
  }

  set deadline(value: bigint) {
    this.#configurationWrites++;
    this.#timer.setDeadline(value);
  }

  /** When the timer expires next, Infinity when it is stopped. */
  get nextTsc(): number {
    return this.#timer.nextTsc;
  }

  /** Raises the timer interrupt when the timer has expired by now. */
  tick(): void {
    if (!this.#timer.expire(this.#now())) return;
    const entry = this.#lvt.read(X2APIC.LVT_TIMER)!;
    if ((entry & LVT.MASKED) === 0) this.request(entry & LVT.VECTOR_MASK);
  }

  receive(message: IpiMessage): void {
    switch (message.kind) {
      case 'fixed':
        this.request(message.vector);
        break;
      case 'nmi':
        this.#events.onNmi();
        break;
      case 'init':
        this.#events.onInit();
        break;
      case 'startup':
        this.#events.onStartup(message.vector);
        break;
      case 'smi':
        this.#events.onSmi();
        break;
      default:
        unreachable(message);
    }
  }

  /** A fixed interrupt arrives: dropped when the APIC is software-disabled, an error below vector 16. */
  request(vector: number, isLevel = false): void {
    if (!this.isEnabled) return;
    if (vector < FIRST_LEGAL_VECTOR) {
      this.#error(ESR_RECEIVE_ILLEGAL_VECTOR);
      return;
    }
    this.#queue.request(vector, isLevel);
  }

  /** A local source fires, as its LVT register says. */
  raise(source: LocalSource): void {
    const entry = this.#lvt.read(source)!;
    if ((entry & LVT.MASKED) !== 0) return;
    if (source === X2APIC.LVT_PMI) this.#lvt.mask(source);
    const isLevel = (entry & LVT.TRIGGER_LEVEL) !== 0;
    const message = LOCAL_MESSAGE[(entry & LVT.DELIVERY_MASK) >>> LVT.DELIVERY_SHIFT];
    if (message === undefined) throw new HarnessBug(`LVT ${source}: delivery mode not modelled`);
    if (message === 'fixed') this.request(entry & LVT.VECTOR_MASK, isLevel);
    else this.receive({ kind: message });
  }

  /** An interrupt was signalled and withdrawn before the processor took it: it gets the spurious vector. */
  raiseSpurious(): void {
    this.#isSpurious = true;
  }

  /** Puts the deliverable vector in service; the spurious vector, which is not put there, when there is none. */
  acknowledge(): number {
    const vector = this.#queue.acknowledge();
    if (vector >= 0) return vector;
    this.#isSpurious = false;
    return this.spuriousVector;
  }

  /** What acknowledge() answers with nothing to take. */
  get spuriousVector(): number {
    return this.#sivr & 0xff;
  }

  /** Ends the highest interrupt in service. */
  eoi(): void {
    const vector = this.#queue.eoi();
    this.#events.onEoi(vector < 0 ? null : vector, vector >= 0 && this.#queue.tmr.has(vector));
  }

  /** The state after INIT, which keeps the APIC id. */
  reset(): void {
    this.#queue.clear();
    this.#lvt.reset();
    this.#timer.restore(new ApicTimer(1).state());
    this.#sivr = SIVR_RESET;
    this.#errorStatus = 0;
    this.#pendingErrors = 0;
    this.#icr = 0n;
    this.#isSpurious = false;
  }

  state(): LocalApicState {
    return {
      queue: this.#queue.state(),
      sivr: this.#sivr,
      errorStatus: this.#errorStatus,
      pendingErrors: this.#pendingErrors,
      icr: this.#icr,
      isSpurious: this.#isSpurious,
      lvt: this.#lvt.state(),
      timer: this.#timer.state(),
    };
  }

  restore(state: LocalApicState): void {
    this.#configurationWrites++;
    this.#queue.restore(state.queue);
    this.#sivr = state.sivr;
    this.#errorStatus = state.errorStatus;
    this.#pendingErrors = state.pendingErrors;
    this.#icr = state.icr;
    this.#isSpurious = state.isSpurious;
    this.#lvt.restore(state.lvt);
    this.#timer.restore(state.timer);
  }

  #readWord(index: number): number {
    if (index >= X2APIC.ISR0 && index < X2APIC.TMR0)
      return this.#queue.isr.word(index - X2APIC.ISR0);
    if (index >= X2APIC.TMR0 && index < X2APIC.IRR0)
      return this.#queue.tmr.word(index - X2APIC.TMR0);
    if (index >= X2APIC.IRR0 && index < X2APIC.ESR)
      return this.#queue.irr.word(index - X2APIC.IRR0);
    switch (index) {
      case X2APIC.APICID:
        return this.id;
      case X2APIC.VERSION:
        return VERSION;
      case X2APIC.TPR:
        return this.#queue.tpr;
      case X2APIC.PPR:
        return this.priority;
      case X2APIC.LDR:
        return this.logicalId;
      case X2APIC.SIVR:
        return this.#sivr;
      case X2APIC.ESR:
        return this.#errorStatus;
      case X2APIC.TIMER_INITIAL:
        return this.#timer.initialCount;
      case X2APIC.TIMER_CURRENT:
        return this.#timer.currentCount(this.#now());
      case X2APIC.TIMER_DIVIDE:
        return this.#timer.divide;
      default:
        return this.#lvtEntry(index);
    }
  }

  #writeWord(index: number, value: number): boolean {
    if (index !== X2APIC.EOI && index !== X2APIC.TPR) this.#configurationWrites++;
    switch (index) {
      case X2APIC.TPR:
        if (value > 0xff) return false;
        this.#queue.tpr = value;
        return true;
      case X2APIC.EOI:
        if (value !== 0) return false;
        this.eoi();
        return true;
      case X2APIC.SIVR:
        return this.#writeSivr(value);
      case X2APIC.ESR:
        return this.#writeEsr(value);
      case X2APIC.SELF_IPI:
        if (value > 0xff) return false;
        if (value < FIRST_LEGAL_VECTOR) this.#error(ESR_SEND_ILLEGAL_VECTOR);
        else this.request(value);
        return true;
      case X2APIC.TIMER_INITIAL:
        this.#timer.setInitialCount(value, this.#now());
        return true;
      case X2APIC.TIMER_DIVIDE:
        if ((value & ~DIVIDE_DEFINED) !== 0) return false;
        this.#timer.setDivide(value, this.#now());
        return true;
      default:
        return this.#writeLvt(index, value);
    }
  }

  #writeSivr(value: number): boolean {
    if ((value & ~SIVR_DEFINED) !== 0) return false;
    this.#sivr = value;
    if (!this.isEnabled) this.#lvt.maskAll();
    return true;
  }

  /** Only 0 may be written; that shows the errors found since the last write. */
  #writeEsr(value: number): boolean {
    if (value !== 0) return false;
    this.#errorStatus = this.#pendingErrors;
    this.#pendingErrors = 0;
    return true;
  }

  #writeLvt(index: number, value: number): boolean {
    if (!this.#lvt.write(index, value, this.isEnabled)) return false;
    if (index === X2APIC.LVT_TIMER) this.#timer.setMode(timerMode(value));
    return true;
  }

  #writeIcr(low: number, high: number): boolean {
    if ((low & ICR.RESERVED) !== 0) return false;
    this.#icr = joinHalves(high, low);
    const delivery = (low & ICR.DELIVERY_MASK) >>> ICR.DELIVERY_SHIFT;
    const hasVector = delivery === ICR_DELIVERY.FIXED || delivery === ICR_DELIVERY.LOWEST_PRIORITY;
    if (hasVector && (low & ICR.VECTOR_MASK) < FIRST_LEGAL_VECTOR) {
      this.#error(ESR_SEND_ILLEGAL_VECTOR);
    } else {
      this.#bus.send(this, low, high);
    }
    return true;
  }

  /** Records an error and raises the error interrupt, once until ESR is written. */
  #error(bit: number): void {
    const isNew = (this.#pendingErrors & bit) === 0;
    this.#pendingErrors |= bit;
    const entry = this.#lvt.read(X2APIC.LVT_ERROR)!;
    const vector = entry & LVT.VECTOR_MASK;
    if (isNew && (entry & LVT.MASKED) === 0 && vector >= FIRST_LEGAL_VECTOR) this.request(vector);
  }

  #lvtEntry(index: number): number {
    const entry = this.#lvt.read(index);
    if (entry === undefined) throw new HarnessBug(`x2APIC register ${index} has no model`);
    return entry;
  }
}

function timerMode(entry: number): ApicTimerMode {
  switch (entry & LVT.TIMER_MODE_MASK) {
    case LVT.TIMER_PERIODIC:
      return 'periodic';
    case LVT.TIMER_TSC_DEADLINE:
      return 'tsc-deadline';
    default:
      return 'one-shot';
  }
}
