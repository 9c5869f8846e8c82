/**
 * A vCPU's state as KVM's own ioctls carry it: KVM_GET_REGS, KVM_GET_SREGS, KVM_GET_VCPU_EVENTS, KVM_GET_DEBUGREGS and
 * KVM_GET_MP_STATE, one behind the other.
 *
 * Source: Linux arch/x86/include/uapi/asm/kvm.h, include/uapi/linux/kvm.h: names and layouts are theirs.
 * Invariant: any kernel's KVM can take such a state, whatever it keeps beside a VMCS.
 * Not modelled: KVM_GET_XSAVE, KVM_GET_XCRS, KVM_GET_LAPIC, KVM_GET_MSRS: that state stays in the core and in soft state.
 */
import { struct, type StructLayout } from './layout.js';

// prettier-ignore
const GENERAL = [
  'rax', 'rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'rsp', 'rbp', 'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15', 'rip', 'rflags',
] as const;

export const KVM_REGS = struct(
  'kvm_regs',
  8 * GENERAL.length,
  GENERAL.map((name, index) => [name, 'u64', 8 * index, 'kvm', "the guest's"] as const),
);

// prettier-ignore
export const KVM_SEGMENT = struct('kvm_segment', 24, [
  ['base', 'u64', 0, 'kvm', 'linear address'],
  ['limit', 'u32', 8, 'kvm', 'in bytes'],
  ['selector', 'u16', 12, 'kvm', 'as loaded'],
  ['type', 'u8', 14, 'kvm', 'of the descriptor'],
  ['present', 'u8', 15, 'kvm', 'P'],
  ['dpl', 'u8', 16, 'kvm', 'DPL'],
  ['db', 'u8', 17, 'kvm', 'D/B'],
  ['s', 'u8', 18, 'kvm', 'S'],
  ['l', 'u8', 19, 'kvm', 'L'],
  ['g', 'u8', 20, 'kvm', 'G'],
  ['avl', 'u8', 21, 'kvm', 'AVL'],
  ['unusable', 'u8', 22, 'kvm', 'a null selector was loaded'],
  ['padding', 'u8', 23, 'reserved', 'must be 0'],
]);

// prettier-ignore
export const KVM_DTABLE = struct('kvm_dtable', 16, [
  ['base', 'u64', 0, 'kvm', 'linear address'],
  ['limit', 'u16', 8, 'kvm', 'in bytes'],
  ['padding', 'u16*3', 10, 'reserved', 'must be 0'],
]);

/** Segments in the order of kvm_sregs. */
export const KVM_SEGMENTS = ['cs', 'ds', 'es', 'fs', 'gs', 'ss', 'tr', 'ldt'] as const;

// prettier-ignore
export const KVM_SREGS = struct('kvm_sregs', 312, [
  ...KVM_SEGMENTS.map((name, index) => [name, KVM_SEGMENT, 24 * index, 'kvm', "the guest's"] as const),
  ['gdt', KVM_DTABLE, 192, 'kvm', 'GDTR'],
  ['idt', KVM_DTABLE, 208, 'kvm', 'IDTR'],
  ['cr0', 'u64', 224, 'kvm', 'CR0'],
  ['cr2', 'u64', 232, 'kvm', 'CR2'],
  ['cr3', 'u64', 240, 'kvm', 'CR3'],
  ['cr4', 'u64', 248, 'kvm', 'CR4'],
  ['cr8', 'u64', 256, 'kvm', 'task priority, bits 7:4'],
  ['efer', 'u64', 264, 'kvm', 'IA32_EFER'],
  ['apic_base', 'u64', 272, 'kvm', 'IA32_APIC_BASE'],
  ['interrupt_bitmap', 'u64*4', 280, 'kvm', 'not used with an in-kernel APIC'],
]);

// prettier-ignore
export const KVM_VCPU_EVENTS = struct('kvm_vcpu_events', 64, [
  ['exception_injected', 'u8', 0, 'kvm', 'its delivery was broken off'],
  ['exception_nr', 'u8', 1, 'kvm', 'vector'],
  ['exception_has_error_code', 'u8', 2, 'kvm', 'whether it pushes one'],
  ['exception_pending', 'u8', 3, 'kvm', 'not injected yet'],
  ['exception_error_code', 'u32', 4, 'kvm', 'error code'],
  ['interrupt_injected', 'u8', 8, 'kvm', 'its delivery was broken off, or comes next'],
  ['interrupt_nr', 'u8', 9, 'kvm', 'vector'],
  ['interrupt_soft', 'u8', 10, 'kvm', 'INT n'],
  ['interrupt_shadow', 'u8', 11, 'kvm', 'KVM_X86_SHADOW'],
  ['nmi_injected', 'u8', 12, 'kvm', 'its delivery was broken off, or comes next'],
  ['nmi_pending', 'u8', 13, 'kvm', 'waits'],
  ['nmi_masked', 'u8', 14, 'kvm', 'the guest blocks NMIs'],
  ['nmi_pad', 'u8', 15, 'reserved', 'must be 0'],
  ['sipi_vector', 'u32', 16, 'kvm', 'not modelled'],
  ['flags', 'u32', 20, 'kvm', 'KVM_VCPUEVENT_VALID'],
  ['smi', 'u32', 24, 'kvm', 'not modelled'],
  ['triple_fault_pending', 'u8', 28, 'kvm', 'not modelled'],
  ['reserved', 'u8*26', 29, 'reserved', 'must be 0'],
  ['exception_has_payload', 'u8', 55, 'kvm', 'not modelled'],
  ['exception_payload', 'u64', 56, 'kvm', 'not modelled'],
]);
export const KVM_X86_SHADOW = { MOV_SS: 1, STI: 2 } as const;
export const KVM_VCPUEVENT_VALID = { NMI_PENDING: 1, SHADOW: 4 } as const;

// prettier-ignore
export const KVM_DEBUGREGS = struct('kvm_debugregs', 128, [
  ['db', 'u64*4', 0, 'kvm', 'DR0 to DR3'],
  ['dr6', 'u64', 32, 'kvm', 'DR6'],
  ['dr7', 'u64', 40, 'kvm', 'DR7'],
  ['flags', 'u64', 48, 'kvm', 'must be 0'],
  ['reserved', 'u64*9', 56, 'reserved', 'must be 0'],
]);

/** kvm_mp_state.mp_state of a vCPU that runs, and of one that is halted. */
export const KVM_MP_STATE = { RUNNABLE: 0, HALTED: 3 } as const;

// prettier-ignore
export const KVM_VCPU_STATE: StructLayout = struct('kvm_vcpu_state', 656, [
  ['regs', KVM_REGS, 0, 'kvm', 'KVM_GET_REGS'],
  ['sregs', KVM_SREGS, 144, 'kvm', 'KVM_GET_SREGS'],
  ['events', KVM_VCPU_EVENTS, 456, 'kvm', 'KVM_GET_VCPU_EVENTS'],
  ['debugregs', KVM_DEBUGREGS, 520, 'kvm', 'KVM_GET_DEBUGREGS'],
  ['mp_state', 'u32', 648, 'kvm', 'KVM_GET_MP_STATE'],
  ['padding', 'u32', 652, 'reserved', 'must be 0'],
]);
