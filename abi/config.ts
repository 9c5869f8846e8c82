/**
 * Shared Configuration Metadata: what KVM negotiated for one vCPU.
 *
 * Source: the RFC, "KVM-Caretaker ABI"; include/caretaker/config.h says the same in C.
 * Invariant: KVM writes it, at install and while the vCPU is stopped.
 */
import { CARETAKER_HEADER, struct } from './layout.js';

export const CARETAKER_CONFIG_MAGIC = 0x31474643_52414321n;
export const CARETAKER_CONFIG_VERSION = 2;
export const CARETAKER_CPUID_MAX = 64;
export const CARETAKER_MSR_MAX = 64;
export const CARETAKER_VCPU_MAX = 64;
export const CARETAKER_IRQ_ROUTE_MAX = 32;
export const CARETAKER_EXIT_POLICY_MAX = 128;

/** Which output bits follow the state of the guest. C: enum caretaker_cpuid_flags. */
export const CARETAKER_CPUID_FLAGS = {
  SUBLEAF: 1,
  OSXSAVE: 2,
  OSPKE: 4,
  XSAVE_SIZE: 8,
} as const;

/** What a payload does with a guest RDMSR or WRMSR. C: enum caretaker_msr_action. */
export const CARETAKER_MSR_ACTION = {
  ROUTE: 0,
  VALUE: 1,
  VMCS: 2,
  IGNORE: 3,
  FAULT: 4,
} as const;

/** Bits of exit_policy[basic reason]; a clear bit routes or blocks. C: enum caretaker_exit_policy. */
export const CARETAKER_EXIT_POLICY = {
  HANDLE_ATTACHED: 1,
  HANDLE_DETACHED: 2,
} as const;

/** How a guest HLT is answered. C: enum caretaker_hlt_policy. */
export const CARETAKER_HLT_POLICY = {
  ACTIVITY: 0,
  ROOT: 1,
} as const;

/** Who delivers virtual interrupts. C: enum caretaker_interrupt_delivery. */
export const CARETAKER_INTERRUPT_DELIVERY = {
  PAYLOAD: 0,
  PROCESSOR: 1,
} as const;

// prettier-ignore
export const CARETAKER_CPUID = struct('caretaker_cpuid', 32, [
  ['leaf', 'u32', 0, 'kvm', 'EAX in'],
  ['subleaf', 'u32', 4, 'kvm', 'ECX in'],
  ['flags', 'u32', 8, 'kvm', 'enum caretaker_cpuid_flags'],
  ['eax', 'u32', 12, 'kvm', 'out'],
  ['ebx', 'u32', 16, 'kvm', 'out'],
  ['ecx', 'u32', 20, 'kvm', 'out'],
  ['edx', 'u32', 24, 'kvm', 'out'],
  ['reserved', 'u32', 28, 'reserved', 'must be 0'],
]);

// prettier-ignore
export const CARETAKER_MSR = struct('caretaker_msr', 32, [
  ['index', 'u32', 0, 'kvm', 'ECX of RDMSR and WRMSR'],
  ['read_action', 'u32', 4, 'kvm', 'enum caretaker_msr_action'],
  ['write_action', 'u32', 8, 'kvm', 'enum caretaker_msr_action'],
  ['vmcs_field', 'u32', 12, 'kvm', 'encoding, for CARETAKER_MSR_VMCS'],
  ['writable', 'u64', 16, 'kvm', 'a set bit outside raises #GP(0)'],
  ['reserved', 'u64', 24, 'reserved', 'must be 0'],
]);

// prettier-ignore
export const CARETAKER_VCPU = struct('caretaker_vcpu', 24, [
  ['vcpu_id', 'u32', 0, 'kvm', 'of the target'],
  ['apic_id', 'u32', 4, 'kvm', 'the x2APIC id that the guest sees'],
  ['physical_apic_id', 'u32', 8, 'kvm', 'where a kick goes'],
  ['reserved', 'u32', 12, 'reserved', 'must be 0'],
  ['soft_state_address', 'u64', 16, 'kvm', 'of struct caretaker_soft_state'],
]);

// prettier-ignore
export const CARETAKER_IRQ_ROUTE = struct('caretaker_irq_route', 4, [
  ['host_vector', 'u8', 0, 'kvm', 'as acknowledged on exit'],
  ['guest_vector', 'u8', 1, 'kvm', 'set in the IRR of vcpu_id'],
  ['vcpu_id', 'u16', 2, 'kvm', 'of the target'],
]);

// prettier-ignore
export const CARETAKER_CONFIG = struct('caretaker_config', 8192, [
  ['header', CARETAKER_HEADER, 0, 'kvm', 'magic, version, size'],
  ['cpuid_count', 'u32', 16, 'kvm', 'entries in cpuid[]'],
  ['cpuid_max_basic', 'u32', 20, 'kvm', 'highest basic leaf'],
  ['cpuid_max_extended', 'u32', 24, 'kvm', 'highest extended leaf'],
  ['msr_count', 'u32', 28, 'kvm', 'entries in msr[]'],
  ['vcpu_count', 'u32', 32, 'kvm', 'entries in vcpu[]'],
  ['irq_route_count', 'u32', 36, 'kvm', 'entries in irq_route[]'],
  ['hlt_policy', 'u32', 40, 'kvm', 'enum caretaker_hlt_policy'],
  ['preemption_timer_shift', 'u32', 44, 'kvm', 'IA32_VMX_MISC[4:0]'],
  ['tsc_frequency', 'u64', 48, 'kvm', 'Hz'],
  ['tsc_offset', 'u64', 56, 'kvm', 'guest TSC = host TSC * scale + offset'],
  ['tsc_multiplier', 'u64', 64, 'kvm', '16.48 fixed point'],
  ['notification_vector', 'u32', 72, 'kvm', 'a kick: look at posted[]'],
  ['xsave_size', 'u32', 76, 'kvm', 'CPUID leaf 0xd EBX for the XCR0 in force'],
  ['interrupt_delivery', 'u32', 80, 'kvm', 'enum caretaker_interrupt_delivery'],
  ['reserved_delivery', 'u32', 84, 'reserved', 'must be 0'],
  ['virtual_apic_address', 'u64', 88, 'kvm', 'page of the processor-held virtual APIC'],
  ['reserved', 'u64*4', 96, 'reserved', 'must be 0'],
  ['exit_policy', `u8*${CARETAKER_EXIT_POLICY_MAX}`, 128, 'kvm', 'enum caretaker_exit_policy by basic reason'],
  ['cpuid', [CARETAKER_CPUID, CARETAKER_CPUID_MAX], 256, 'kvm', 'pre-computed leaves'],
  ['msr', [CARETAKER_MSR, CARETAKER_MSR_MAX], 2304, 'kvm', 'policy by MSR'],
  ['vcpu', [CARETAKER_VCPU, CARETAKER_VCPU_MAX], 4352, 'kvm', 'all vCPUs of the VM'],
  ['irq_route', [CARETAKER_IRQ_ROUTE, CARETAKER_IRQ_ROUTE_MAX], 5888, 'kvm', 'device interrupts'],
  ['reserved_tail', 'u8*2176', 6016, 'reserved', 'must be 0'],
]);
