/**
 * What KVM and a Linux guest share of time: the MSRs that switch it on, and the structures in guest memory.
 *
 * Source: Linux arch/x86/include/asm/pvclock-abi.h, arch/x86/include/uapi/asm/kvm_para.h; Documentation/virt/kvm/x86/msr.rst.
 * Invariant: an odd version means that KVM is writing; a reader takes what it read between two equal even versions.
 */
import { struct } from './layout.js';

/** MSRs of KVM's own; bit 0 of the clock's and of steal time's switches them on, the rest is a guest-physical address. */
export const PV_MSR = {
  WALL_CLOCK: 0x4b56_4d00,
  SYSTEM_TIME: 0x4b56_4d01,
  STEAL_TIME: 0x4b56_4d03,
} as const;
export const PV_MSR_ENABLE = 1n;

/** Bits of pvclock_vcpu_time_info.flags. */
export const PVCLOCK_FLAGS = { TSC_STABLE: 1, GUEST_STOPPED: 2 } as const;

// prettier-ignore
/** ns = system_time + ((tsc - tsc_timestamp) << tsc_shift) * tsc_to_system_mul / 2^32; the shift is signed. */
export const PVCLOCK_VCPU_TIME_INFO = struct('pvclock_vcpu_time_info', 32, [
  ['version', 'u32', 0, 'kvm', 'odd while KVM writes'],
  ['pad0', 'u32', 4, 'reserved', 'must be 0'],
  ['tsc_timestamp', 'u64', 8, 'kvm', 'guest TSC at system_time'],
  ['system_time', 'u64', 16, 'kvm', 'ns since the guest booted'],
  ['tsc_to_system_mul', 'u32', 24, 'kvm', '32.32 fixed point'],
  ['tsc_shift', 'u8', 28, 'kvm', 'signed'],
  ['flags', 'u8', 29, 'kvm', 'PVCLOCK_FLAGS'],
  ['pad', 'u8*2', 30, 'reserved', 'must be 0'],
]);

// prettier-ignore
export const PVCLOCK_WALL_CLOCK = struct('pvclock_wall_clock', 12, [
  ['version', 'u32', 0, 'kvm', 'odd while KVM writes'],
  ['sec', 'u32', 4, 'kvm', 'wall clock when system_time was 0'],
  ['nsec', 'u32', 8, 'kvm', 'wall clock when system_time was 0'],
]);

// prettier-ignore
export const KVM_STEAL_TIME = struct('kvm_steal_time', 64, [
  ['steal', 'u64', 0, 'kvm', 'ns in which the vCPU would have run and did not'],
  ['version', 'u32', 8, 'kvm', 'odd while KVM writes'],
  ['flags', 'u32', 12, 'reserved', 'must be 0'],
  ['preempted', 'u8', 16, 'kvm', 'not used here'],
  ['pad', 'u8*47', 17, 'reserved', 'must be 0'],
]);
