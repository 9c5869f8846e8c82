/**
 * What one kernel's KVM writes for the next to read across kexec: the records behind a preserved VM and vCPU.
 *
 * Source: CONTRACT ("Reachable and preserved"); the RFC, "Preservation of the vCPU"; Linux include/linux/kho/abi for
 * the form: packed, native endian, a compatible string that changes with the layout, physical addresses as u64.
 * Invariant: a record names physical memory only; no pointer into the kernel that wrote it.
 */
import { CARETAKER_HEADER, struct } from './layout.js';

export const KVM_VM_COMPATIBLE = 'kvm-caretaker-vm-v5';
export const KVM_VCPU_COMPATIBLE = 'kvm-caretaker-vcpu-v5';

export const KVM_VM_SER_MAGIC = 0x314d_5653_4d56_4b21n;
export const KVM_VCPU_SER_MAGIC = 0x3155_5043_564d_4b21n;
export const KVM_SER_VERSION = 5;

// prettier-ignore
/** One preserved VM. */
export const KVM_VM_SER = struct('kvm_vm_ser', 176, [
  ['header', CARETAKER_HEADER, 0, 'kvm', 'magic, version, size'],
  ['vm_id', 'u32', 16, 'kvm', 'of the VM within its host'],
  ['vcpu_count', 'u32', 20, 'kvm', 'vCPUs created'],
  ['tsc_frequency', 'u64', 24, 'kvm', 'of the host when preserved, Hz'],
  ['tsc_at_preserve', 'u64', 32, 'kvm', 'host TSC when preserved'],
  ['monotonic_at_preserve', 'u64', 40, 'kvm', 'CLOCK_MONOTONIC of the old kernel then, ns'],
  ['eptp', 'u64', 48, 'kvm', 'EPT pointer'],
  ['lifecycle', 'u32', 56, 'kvm', '0 interpose, 1 attach'],
  ['cr3_policy', 'u32', 60, 'kvm', '0 isolated, 1 shared until detach'],
  ['ept_root', 'u64', 64, 'kvm', 'page that the EPT pointer names'],
  ['tsc_offset', 'u64', 72, 'kvm', 'guest TSC less host TSC'],
  ['hlt_policy', 'u32', 80, 'kvm', 'enum caretaker_hlt_policy'],
  ['shadow_stacks', 'u32', 84, 'kvm', '1: payloads run on shadow stacks'],
  ['clock_tsc', 'u64', 88, 'kvm', 'guest TSC at which kvmclock is clock_ns'],
  ['clock_ns', 'u64', 96, 'kvm', 'kvmclock at clock_tsc'],
  ['clock_mul', 'u32', 104, 'kvm', 'ns per tick, 32.32 fixed point'],
  ['clock_shift', 'u32', 108, 'kvm', 'of the ticks before they are multiplied; signed'],
  ['guest_memory', 'u64', 112, 'kvm', 'host-physical address of guest-physical address 0'],
  ['guest_memory_size', 'u64', 120, 'kvm', 'in bytes'],
  ['ept_pool', 'u64', 128, 'kvm', 'pages of EPT tables below the root; contiguous'],
  ['ept_pool_pages', 'u32', 136, 'kvm', 'of them'],
  ['dirty_logging', 'u32', 140, 'kvm', '1: dirty pages are logged'],
  ['dirty_bitmap', 'u64', 144, 'kvm', 'a bit for each page of guest memory, 0 for none'],
  ['features', 'u64', 152, 'kvm', 'CARETAKER_FEATURE_* that its payloads and KVM use'],
  ['ccb_version', 'u32', 160, 'kvm', 'of struct caretaker_ccb, 0 without a payload'],
  ['config_version', 'u32', 164, 'kvm', 'of struct caretaker_config'],
  ['telemetry_version', 'u32', 168, 'kvm', 'of struct caretaker_telemetry'],
  ['soft_state_version', 'u32', 172, 'kvm', 'of struct caretaker_soft_state'],
]);

// prettier-ignore
/** One preserved vCPU. */
export const KVM_VCPU_SER = struct('kvm_vcpu_ser', 256, [
  ['header', CARETAKER_HEADER, 0, 'kvm', 'magic, version, size'],
  ['vcpu_id', 'u32', 16, 'kvm', 'of the vCPU'],
  ['apic_id', 'u32', 20, 'kvm', 'x2APIC id that the guest sees'],
  ['pcpu', 'u32', 24, 'kvm', 'core that runs it'],
  ['pcpu_apic_id', 'u32', 28, 'kvm', 'x2APIC id of that core'],
  ['instance_base', 'u64', 32, 'kvm', 'first byte of the payload instance'],
  ['instance_size', 'u64', 40, 'kvm', 'in bytes, whole pages'],
  ['ccb', 'u64', 48, 'kvm', 'struct caretaker_ccb inside it'],
  ['entry_vmexit', 'u64', 56, 'kvm', 'HOST_RIP'],
  ['entry_run', 'u64', 64, 'kvm', 'runs this vCPU'],
  ['stack_base', 'u64', 72, 'kvm', 'of the payload stack'],
  ['stack_size', 'u64', 80, 'kvm', 'in bytes'],
  ['config', 'u64', 88, 'kvm', 'struct caretaker_config'],
  ['telemetry', 'u64', 96, 'kvm', 'struct caretaker_telemetry'],
  ['soft_state', 'u64', 104, 'kvm', 'struct caretaker_soft_state'],
  ['vmcs', 'u64', 112, 'kvm', 'VMCS region'],
  ['vmxon', 'u64', 120, 'kvm', 'VMXON region of the core'],
  ['cr3', 'u64', 128, 'kvm', 'root of the payload page tables'],
  ['msr_bitmap', 'u64', 136, 'kvm', 'MSR bitmap'],
  ['features', 'u64', 144, 'kvm', 'CARETAKER_FEATURE_* that the payload uses'],
  ['epoch', 'u64', 152, 'kvm', 'of the last attachment'],
  ['payload_version', 'u32', 160, 'kvm', 'ABI version of the payload'],
  ['launch_state', 'u32', 164, 'kvm', '0 clear, 1 launched'],
  ['tables', 'u64', 168, 'kvm', 'pages of the page tables; contiguous'],
  ['text_base', 'u64', 176, 'kvm', 'executable part of the instance'],
  ['text_size', 'u64', 184, 'kvm', 'in bytes, whole pages'],
  ['virtual_apic', 'u64', 192, 'kvm', 'virtual-APIC page'],
  ['vm_record', 'u64', 200, 'kvm', 'struct kvm_vm_ser of its VM'],
  ['pv_time_info', 'u64', 208, 'kvm', 'host-physical address of its kvmclock structure, 0 for none'],
  ['pv_steal_time', 'u64', 216, 'kvm', 'host-physical address of its steal time, 0 for none'],
  ['shadow_stack', 'u64', 224, 'kvm', 'interrupt SSP table and shadow stacks; 0 for none'],
  ['reserved', 'u64*3', 232, 'reserved', 'must be 0'],
]);

/** The records as one list, for the lock and the comparison of two kernels. */
export const KHO_RECORDS = [
  {
    layout: KVM_VM_SER,
    compatible: KVM_VM_COMPATIBLE,
    magic: KVM_VM_SER_MAGIC,
    version: KVM_SER_VERSION,
  },
  {
    layout: KVM_VCPU_SER,
    compatible: KVM_VCPU_COMPATIBLE,
    magic: KVM_VCPU_SER_MAGIC,
    version: KVM_SER_VERSION,
  },
] as const;
