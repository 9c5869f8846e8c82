/**
 * kvmclock and steal time of a VM: what the guest's clock is, and how it goes on in another kernel.
 *
 * Happy path across a live update:
 * 1. preserve: the clock's base (a guest TSC, the ns at it, the scale from one to the other) goes into the VM's record.
 * 2. In the gap nobody writes the pages; the guest's TSC goes on, and with it the clock.
 * 3. retrieve: the base is taken over as it is, whatever this kernel's own monotonic clock, wall clock and calibration say.
 *    A new scale while another vCPU still reads the old page would let one clock overtake the other.
 * Unhappy path: `restarted`, a kernel that computes the base anew, as one that knows nothing of the record would. The guest
 * sees a jump; it is here to be seen, and found.
 *
 * Source: Linux arch/x86/kvm/x86.c: kvm_guest_time_update(), kvm_get_time_scale(), record_steal_time(); the RFC,
 * "Timekeeping Drift".
 * Invariant: all vCPUs have one base at any time; a structure is written under an odd version.
 * Not modelled: hosts whose TSC is not stable, catch-up, Hyper-V's reference page, KVM_KVMCLOCK_CTRL.
 */
import { StructView } from '../../../abi/layout.js';
import {
  KVM_STEAL_TIME,
  PVCLOCK_FLAGS,
  PVCLOCK_VCPU_TIME_INFO,
  PVCLOCK_WALL_CLOCK,
} from '../../../abi/pv-clock.js';
import type { PhysicalBytes } from '../../memory/physical-memory.js';

/** ns at a guest TSC, and ns per tick: (ticks << shift) * mul / 2^32. */
export interface ClockBase {
  readonly tsc: bigint;
  readonly ns: bigint;
  readonly mul: bigint;
  readonly shift: number;
}

/** How a kernel comes by the clock of a VM that it retrieves. */
export type ClockPolicy = 'carried' | 'restarted';

const NS_PER_SECOND = 1_000_000_000n;
const WORD = 1n << 32n;

/** The scale from TSC ticks to ns, with the most bits that fit 32. @param hz of the TSC, as a kernel has calibrated it. */
export function scaleOf(hz: number): Pick<ClockBase, 'mul' | 'shift'> {
  let shift = 0;
  const mulAt = (by: number): bigint => (NS_PER_SECOND << BigInt(32 - by)) / BigInt(Math.round(hz));
  while (mulAt(shift) >= WORD) shift++;
  while (mulAt(shift) < WORD >> 1n) shift--;
  return { mul: mulAt(shift), shift };
}

/** What a guest reads at a guest TSC. */
export function clockAt({ tsc, ns, mul, shift }: ClockBase, guestTsc: bigint): bigint {
  const ticks = guestTsc - tsc;
  const scaled = shift >= 0 ? ticks << BigInt(shift) : ticks >> BigInt(-shift);
  return ns + ((scaled * mul) >> 32n);
}

/** Writes a vCPU's time info. */
export function writeTimeInfo(bytes: PhysicalBytes, hpa: bigint, base: ClockBase): void {
  const view = new StructView(PVCLOCK_VCPU_TIME_INFO, bytes, hpa);
  underOddVersion(view, () => {
    view.set('tsc_timestamp', base.tsc);
    view.set('system_time', base.ns);
    view.set('tsc_to_system_mul', base.mul);
    view.set('tsc_shift', base.shift & 0xff);
    view.set('flags', PVCLOCK_FLAGS.TSC_STABLE);
  });
}

/** The base in a vCPU's time info, as its guest finds it. */
export function readTimeInfo(view: StructView): ClockBase {
  return {
    tsc: view.get('tsc_timestamp'),
    ns: view.get('system_time'),
    mul: view.get('tsc_to_system_mul'),
    shift: (view.number('tsc_shift') << 24) >> 24,
  };
}

/** Writes the wall clock at which the guest's clock was 0. */
export function writeWallClock(bytes: PhysicalBytes, hpa: bigint, bootNs: bigint): void {
  const view = new StructView(PVCLOCK_WALL_CLOCK, bytes, hpa);
  underOddVersion(view, () => {
    view.set('sec', bootNs / NS_PER_SECOND);
    view.set('nsec', bootNs % NS_PER_SECOND);
  });
}

/** Adds to the time that a vCPU was kept from running. */
export function addSteal(bytes: PhysicalBytes, hpa: bigint, ns: bigint): void {
  const view = new StructView(KVM_STEAL_TIME, bytes, hpa);
  underOddVersion(view, () => {
    view.set('steal', view.get('steal') + ns);
  });
}

function underOddVersion(view: StructView, write: () => void): void {
  const version = view.number('version');
  const odd = (version | 1) >>> 0;
  view.set('version', odd);
  write();
  view.set('version', (odd + 1) >>> 0);
}
