/**
 * pCPUs as a kernel sees them: who is online, who is present, and how one leaves and comes back.
 *
 * Happy path of a pCPU that is isolated:
 * 1. offline: its timers and interrupts move to another pCPU, it executes VMXOFF and reports dead.
 * 2. park: instead of the dead loop it waits in preserved memory; it is no longer present.
 * 3. start: it runs its workload, a vCPU. kexec passes it by, and the next kernel's smpInit() skips it.
 * 4. exit: it is kicked, leaves its workload and reports dead.
 * 5. online: it is present again and is brought up with INIT and SIPI like any other.
 *
 * Unhappy paths:
 * 1. It is the boot CPU or the last one online: refused, nothing changes.
 * 2. A kernel does not know that it is preserved: smpInit() sends INIT, and what ran there is lost.
 * 3. A sibling thread is still online: the core does not leave the kernel by halves (CpuPreserve).
 *
 * Source: Linux kernel/cpu.c: remove_cpu(), cpuhp_ap_report_dead(); kernel/smp.c: smp_init(); RFC, "Preservation of the
 * vCPU".
 * Invariant: no timer and no interrupt is bound to a pCPU that is not online.
 * Not modelled: the hotplug state machine's callbacks, physical removal.
 */
import { HarnessBug } from '../../abi/errors.js';
import type { HostEvents } from './events.js';
import { DONE, refuse, type Result } from './result.js';

/** Where a pCPU is in its life. */
export type PcpuState = 'online' | 'offline' | 'parked' | 'workload' | 'exiting' | 'dead';

/** A pCPU as firmware lists it. Logical numbers may differ between kernels; APIC ids do not. */
export interface PcpuId {
  readonly cpu: number;
  readonly apicId: number;
}

interface PcpuRecord extends PcpuId {
  state: PcpuState;
  isPresent: boolean;
}

interface TimerRecord {
  readonly label: string;
  cpu: number;
}

interface IrqRecord {
  readonly irq: number;
  cpu: number;
}

/** All pCPUs as plain data. */
export interface CpuHotplugState {
  readonly cpus: readonly Readonly<PcpuRecord>[];
  readonly timers: readonly Readonly<TimerRecord>[];
  readonly irqs: readonly Readonly<IrqRecord>[];
}

/** The pCPU that boots a kernel; it cannot go offline. */
export const BOOT_CPU = 0;

export class CpuHotplug {
  readonly #events: HostEvents;
  readonly #threadsPerCore: number;
  #cpus: PcpuRecord[];
  #timers: TimerRecord[] = [];
  #irqs: IrqRecord[] = [];

  /** At first the boot CPU is online; the others are present and wait for smpInit(). */
  constructor(cpus: readonly PcpuId[], events: HostEvents, threadsPerCore = 1) {
    this.#events = events;
    this.#threadsPerCore = threadsPerCore;
    this.#cpus = cpus.map((id) => ({
      ...id,
      state: id.cpu === BOOT_CPU ? 'online' : 'offline',
      isPresent: true,
    }));
  }

  /** All pCPUs. */
  cpus(): readonly Readonly<PcpuRecord>[] {
    return this.#cpus;
  }

  /** The state of one. */
  stateOf(cpu: number): PcpuState {
    return this.#cpu(cpu).state;
  }

  /** The logical number of the pCPU with that APIC id. */
  cpuOfApicId(apicId: number): number | undefined {
    return this.#cpus.find((record) => record.apicId === apicId)?.cpu;
  }

  /** topology_sibling_cpumask() without the pCPU itself: the threads of a core differ in the low bits of their APIC ids. */
  siblingsOf(cpu: number): readonly number[] {
    const coreOf = ({ apicId }: PcpuId): number => Math.floor(apicId / this.#threadsPerCore);
    const core = coreOf(this.#cpu(cpu));
    return this.#cpus
      .filter((one) => one.cpu !== cpu && coreOf(one) === core)
      .map((one) => one.cpu);
  }

  /** Puts a timer on an online pCPU. */
  addTimer(label: string, cpu: number): void {
    this.#assertOnline(cpu);
    this.#timers.push({ label, cpu });
  }

  /** Routes an interrupt to an online pCPU. */
  routeIrq(irq: number, cpu: number): void {
    this.#assertOnline(cpu);
    this.#irqs = [...this.#irqs.filter((record) => record.irq !== irq), { irq, cpu }];
  }

  /** Labels of the timers and numbers of the interrupts bound to a pCPU. */
  boundTo(cpu: number): { readonly timers: readonly string[]; readonly irqs: readonly number[] } {
    return {
      timers: this.#timers.filter((timer) => timer.cpu === cpu).map((timer) => timer.label),
      irqs: this.#irqs.filter((record) => record.cpu === cpu).map((record) => record.irq),
    };
  }

  /** smp_init(): brings up every present pCPU but those whose APIC id is in `preserved`; those are not present. */
  smpInit(preserved: ReadonlySet<number> = new Set()): void {
    for (const record of this.#cpus) {
      if (preserved.has(record.apicId) && record.cpu !== BOOT_CPU) {
        record.isPresent = false;
        record.state = 'workload';
      } else if (record.state !== 'online') {
        this.#bringUp(record);
      }
    }
  }

  /** remove_cpu(). Errnos: ENODEV no such pCPU or not present; EBUSY the boot CPU; EINVAL not online. */
  offline(cpu: number): Result<void> {
    const record = this.#cpus.find((one) => one.cpu === cpu);
    if (record?.isPresent !== true) return refuse('ENODEV');
    if (record.state !== 'online') return refuse('EINVAL');
    if (cpu === BOOT_CPU) return refuse('EBUSY');
    this.#evacuate(cpu);
    record.state = 'offline';
    this.#events.onOffline(record.apicId);
    return DONE;
  }

  /** The dead pCPU waits in preserved memory and is not present any more. Errnos: EINVAL not offline. */
  park(cpu: number): Result<void> {
    const record = this.#cpu(cpu);
    if (record.state !== 'offline' && record.state !== 'dead') return refuse('EINVAL');
    record.state = 'parked';
    record.isPresent = false;
    return DONE;
  }

  /** The parked pCPU begins its workload. Errnos: EINVAL not parked. */
  startWorkload(cpu: number): Result<void> {
    return this.#move(cpu, ['parked'], 'workload');
  }

  /** Wants the pCPU back: kicks it. Errnos: EINVAL neither parked nor at work. */
  requestExit(cpu: number): Result<void> {
    const moved = this.#move(cpu, ['parked', 'workload'], 'exiting');
    if (moved.ok) this.#events.onKick(this.#cpu(cpu).apicId);
    return moved;
  }

  /** The pCPU has left its workload. Errnos: EINVAL it was not asked to. */
  reportDead(cpu: number): Result<void> {
    return this.#move(cpu, ['exiting'], 'dead');
  }

  /** add_cpu(): present and online again. Errnos: EINVAL it is neither offline nor dead. */
  online(cpu: number): Result<void> {
    const record = this.#cpu(cpu);
    if (record.state !== 'offline' && record.state !== 'dead') return refuse('EINVAL');
    record.isPresent = true;
    this.#bringUp(record);
    return DONE;
  }

  /**
   * The pCPU with that APIC id comes back without INIT: what ran there handed it over in a known state, as a Caretaker
   * does that jumps to a routing pointer. Errnos: ENODEV no such pCPU; EINVAL it is not preserved.
   */
  adopt(apicId: number): Result<void> {
    const cpu = this.cpuOfApicId(apicId);
    if (cpu === undefined) return refuse('ENODEV');
    const moved = this.#move(cpu, ['parked', 'workload', 'exiting', 'dead'], 'online');
    if (moved.ok) this.#cpu(cpu).isPresent = true;
    return moved;
  }

  /** smp_send_stop(): stops every online pCPU but the boot CPU. A pCPU that is not online does not hear of it. */
  smpSendStop(): void {
    for (const record of this.#cpus) {
      if (record.state !== 'online' || record.cpu === BOOT_CPU) continue;
      record.state = 'offline';
      this.#events.onStop(record.apicId);
    }
  }

  state(): CpuHotplugState {
    return structuredClone({ cpus: this.#cpus, timers: this.#timers, irqs: this.#irqs });
  }

  /** Goes back to where `state` was taken. */
  restore(state: CpuHotplugState): void {
    const { cpus, timers, irqs } = structuredClone(state);
    this.#cpus = [...cpus];
    this.#timers = [...timers];
    this.#irqs = [...irqs];
  }

  #cpu(cpu: number): PcpuRecord {
    const record = this.#cpus.find((one) => one.cpu === cpu);
    if (record === undefined) throw new HarnessBug(`no pCPU ${cpu}`);
    return record;
  }

  #assertOnline(cpu: number): void {
    if (this.#cpu(cpu).state !== 'online') throw new HarnessBug(`pCPU ${cpu} is not online`);
  }

  #move(cpu: number, from: readonly PcpuState[], to: PcpuState): Result<void> {
    const record = this.#cpu(cpu);
    if (!from.includes(record.state)) return refuse('EINVAL');
    record.state = to;
    return DONE;
  }

  #bringUp(record: PcpuRecord): void {
    this.#events.onInit(record.apicId);
    this.#events.onSipi(record.apicId);
    record.state = 'online';
  }

  #evacuate(cpu: number): void {
    const target = this.#cpus.find((one) => one.state === 'online' && one.cpu !== cpu);
    if (target === undefined) throw new HarnessBug('the boot CPU is always online');
    for (const timer of this.#timers.filter((one) => one.cpu === cpu)) {
      timer.cpu = target.cpu;
      this.#events.onTimerMigrated(timer.label, cpu, target.cpu);
    }
    for (const irq of this.#irqs.filter((one) => one.cpu === cpu)) {
      irq.cpu = target.cpu;
      this.#events.onIrqMigrated(irq.irq, cpu, target.cpu);
    }
  }
}
