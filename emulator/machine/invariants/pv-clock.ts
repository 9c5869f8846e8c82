/**
 * The guest's kvmclock and steal time, as its vCPUs would read them at this moment: for the time invariant.
 *
 * Source: the RFC, "Timekeeping Drift"; Linux arch/x86/kernel/pvclock.c: __pvclock_clocksource_read().
 * Invariant: read through the structures in guest memory and the guest's TSC, and through nothing that KVM knows.
 */
import { StructView } from '../../../abi/layout.js';
import { KVM_STEAL_TIME, PVCLOCK_FLAGS, PVCLOCK_VCPU_TIME_INFO } from '../../../abi/pv-clock.js';
import { u64 } from '../../../abi/uint.js';
import { clockAt, readTimeInfo } from '../../host/kvm/pv-clock.js';
import type { Lane } from '../lane.js';

/** A reading: what the clock was at a TSC of the host. */
interface Reading {
  readonly tsc: number;
  readonly ns: bigint;
}

/** What the clocks of a VM are compared with; as data, for snapshots. */
export interface ClockMemory {
  readonly first: Reading | null;
  readonly last: Reading | null;
  readonly steal: ReadonlyMap<number, bigint>;
}

/** How far the guest's clock may run from the host's TSC: what two calibrations of one TSC differ by. */
const MAX_PPM = 500n;
const ROUNDING_NS = 2n;

export class ClockWatch {
  #first: Reading | null = null;
  #last: Reading | null = null;
  readonly #steal = new Map<number, bigint>();

  /** What is wrong with what the vCPU would read now, or null; `hz` is the true frequency of the TSC. */
  look(lane: Lane, hz: number): string | null {
    const { bytes } = lane.memory;
    const tsc = lane.pcpu.now();
    const info = new StructView(PVCLOCK_VCPU_TIME_INFO, bytes, lane.vcpu.pvTimeInfo);
    if ((info.number('version') & 1) !== 0) return 'kvmclock has an odd version';
    if ((info.number('flags') & PVCLOCK_FLAGS.TSC_STABLE) === 0)
      return 'kvmclock is not marked stable';
    const ns = clockAt(readTimeInfo(info), u64(BigInt(tsc + lane.tscOffset)));
    return this.#judge({ tsc, ns }, hz) ?? this.#lookAtSteal(lane, ns);
  }

  state(): ClockMemory {
    return { first: this.#first, last: this.#last, steal: new Map(this.#steal) };
  }

  restore({ first, last, steal }: ClockMemory): void {
    this.#first = first;
    this.#last = last;
    this.#steal.clear();
    for (const [id, ns] of steal) this.#steal.set(id, ns);
  }

  /** Two vCPUs' readings are in the order of their TSCs; none is far from what the first and the TSC make it. */
  #judge(now: Reading, hz: number): string | null {
    const last = this.#last;
    const first = (this.#first ??= now);
    if (last === null || now.tsc >= last.tsc) this.#last = now;
    if (last !== null) {
      const isOrdered = now.tsc >= last.tsc ? now.ns >= last.ns : now.ns <= last.ns;
      if (!isOrdered)
        return `kvmclock is ${now.ns} ns at TSC ${now.tsc}, and was ${last.ns} ns at TSC ${last.tsc}`;
    }
    const elapsed = (BigInt(now.tsc - first.tsc) * 1_000_000_000n) / BigInt(hz);
    const error = now.ns - first.ns - elapsed;
    const size = error < 0n ? -error : error;
    const allowed = (elapsed * MAX_PPM) / 1_000_000n + ROUNDING_NS;
    if (now.tsc < first.tsc || size <= allowed) return null;
    return `kvmclock has gone ${now.ns - first.ns} ns in ${elapsed} ns of the host's`;
  }

  #lookAtSteal({ id, vcpu, memory }: Lane, now: bigint): string | null {
    if (vcpu.pvStealTime === 0n) return null;
    const view = new StructView(KVM_STEAL_TIME, memory.bytes, vcpu.pvStealTime);
    const ns = view.get('steal');
    const before = this.#steal.get(id) ?? 0n;
    this.#steal.set(id, ns);
    if ((view.number('version') & 1) !== 0) return 'steal time has an odd version';
    if (ns < before) return `steal time is ${ns} ns, and was ${before} ns`;
    return ns > now ? `steal time is ${ns} ns of ${now} ns that the guest has run` : null;
  }
}
