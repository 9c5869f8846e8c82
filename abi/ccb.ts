/**
 * The Caretaker Control Block, section .ccb of a payload.
 *
 * Source: CONTRACT ("CCB"); include/caretaker/ccb.h says the same in C.
 * Invariant: each field has one writer; everything from CARETAKER_KVM_PAGE on is KVM's and read-only to the payload.
 */
import { CARETAKER_HEADER, struct } from './layout.js';

export const CARETAKER_CCB_MAGIC = 0x31424343_52414321n;
export const CARETAKER_CCB_VERSION = 2;
export const CARETAKER_CCB_SIZE = 8192;
export const CARETAKER_CCB_ALIGN = 4096;
export const CARETAKER_KVM_PAGE = 4096;

/** Whether KVM is there. C: enum caretaker_attach_state. */
export const CARETAKER_ATTACH_STATE = {
  KVM_DETACHED: 0,
  KVM_ATTACHED: 1,
} as const;

/** What KVM asks of the payload. C: enum caretaker_request. */
export const CARETAKER_REQUEST = {
  NONE: 0,
  STOP: 1,
} as const;

/** What the payload reports of itself. C: enum caretaker_run_state. */
export const CARETAKER_RUN_STATE = {
  RUNNING: 0,
  HALTED: 1,
  SPINNING: 2,
  SERIALIZED: 3,
  PARKED: 4,
} as const;

/** Order of the general registers in the save area; RSP is GUEST_RSP. */
// prettier-ignore
export const CARETAKER_REGISTER_ORDER = [
  'RAX', 'RCX', 'RDX', 'RBX', 'RBP', 'RSI', 'RDI',
  'R8', 'R9', 'R10', 'R11', 'R12', 'R13', 'R14', 'R15',
] as const;
export const CARETAKER_REGISTERS = 15;

/** exit_reason of a stop that left no exit unanswered; RDX of a jump to KVM that brings no exit. */
export const CARETAKER_NO_EXIT = 0xffff_ffff;
/** vector when VM entry failed: error_code is the VM-instruction error. */
export const CARETAKER_VECTOR_VMFAIL = 256;

/** What a payload uses and the next kernel must offer. */
export const CARETAKER_FEATURE = {
  PREEMPTION_TIMER: 1n << 0n,
  ACK_ON_EXIT: 1n << 1n,
  X2APIC: 1n << 2n,
  HLT_ACTIVITY: 1n << 3n,
  TSC_SCALING: 1n << 4n,
  /** Said by KVM where it gives shadow stacks. */
  SHADOW_STACK: 1n << 5n,
  INVARIANT_TSC: 1n << 6n,
  /** The payload can leave virtual interrupts to the processor; used where KVM says so in config. */
  POSTED_INTERRUPTS: 1n << 7n,
} as const;

// prettier-ignore
export const CARETAKER_CCB = struct('caretaker_ccb', 8192, [
  ['header', CARETAKER_HEADER, 0, 'image', 'magic, version, size'],
  ['entry_init', 'u64', 16, 'image', 'called once per instance by KVM_SET_CARETAKER'],
  ['entry_vmexit', 'u64', 24, 'image', 'HOST_RIP; equals e_entry'],
  ['entry_run', 'u64', 32, 'image', 'called by KVM to run this vCPU'],
  ['reserved_image', 'u64*3', 40, 'reserved', 'must be 0'],
  ['gdt_base', 'u64', 64, 'init', 'HOST_GDTR_BASE'],
  ['idt_base', 'u64', 72, 'init', 'HOST_IDTR_BASE'],
  ['tss_base', 'u64', 80, 'init', 'HOST_TR_BASE'],
  ['gdt_limit', 'u32', 88, 'init', 'bytes less one'],
  ['idt_limit', 'u32', 92, 'init', 'bytes less one'],
  ['tss_limit', 'u32', 96, 'init', 'bytes less one'],
  ['selector_cs', 'u16', 100, 'init', 'HOST_CS_SELECTOR'],
  ['selector_ss', 'u16', 102, 'init', 'HOST_SS_SELECTOR'],
  ['selector_tr', 'u16', 104, 'init', 'HOST_TR_SELECTOR'],
  ['reserved_init', 'u16*3', 106, 'reserved', 'must be 0'],
  ['features', 'u64', 112, 'init', 'CARETAKER_FEATURE_* that the payload uses'],
  ['reserved_features', 'u64', 120, 'reserved', 'must be 0'],
  ['state', 'u32', 128, 'payload', 'enum caretaker_run_state, with release order'],
  ['exit_reason', 'u32', 132, 'payload', 'the exit at hand when the state changed'],
  ['vector', 'u32', 136, 'payload', 'of the fault that parked the core'],
  ['error_code', 'u32', 140, 'payload', 'of that fault'],
  ['rip', 'u64', 144, 'payload', 'where that fault was raised'],
  ['cr2', 'u64', 152, 'payload', 'of a page fault'],
  ['reserved_state', 'u64*4', 160, 'reserved', 'must be 0'],
  ['registers', `u64*${CARETAKER_REGISTERS}`, 192, 'owner', 'guest registers: by the payload at an exit, by KVM before run'],
  ['registers_valid', 'u32', 312, 'owner', '1 while registers hold the whole guest state'],
  ['reserved_registers', 'u32', 316, 'reserved', 'must be 0'],
  ['reserved_payload', 'u8*3776', 320, 'reserved', 'must be 0'],
  ['attach_state', 'u32', 4096, 'kvm', 'enum caretaker_attach_state, with release order'],
  ['reserved_attach', 'u32', 4100, 'reserved', 'must be 0'],
  ['epoch', 'u64', 4104, 'kvm', 'counts attachments; the payload need not read it'],
  ['reserved_epoch', 'u64*6', 4112, 'reserved', 'must be 0'],
  ['routing_handler', 'u64', 4160, 'kvm', 'where a routed exit jumps'],
  ['routing_stack', 'u64', 4168, 'kvm', 'RSP there'],
  ['routing_cr3', 'u64', 4176, 'kvm', 'CR3 there'],
  ['routing_gs_base', 'u64', 4184, 'kvm', 'GS base there'],
  ['routing_argument', 'u64', 4192, 'kvm', 'RDI there'],
  ['reserved_routing', 'u64*3', 4200, 'reserved', 'must be 0'],
  ['request', 'u32', 4224, 'kvm', 'enum caretaker_request, before a kick'],
  ['reserved_request', 'u32*15', 4228, 'reserved', 'must be 0'],
  ['vmcs_address', 'u64', 4288, 'kvm', 'of the VMCS region'],
  ['vmxon_address', 'u64', 4296, 'kvm', 'of the VMXON region the core may use'],
  ['launch_state', 'u32', 4304, 'kvm', 'at hand-over: 0 clear, 1 launched'],
  ['vcpu_id', 'u32', 4308, 'kvm', 'of the vCPU'],
  ['apic_id', 'u32', 4312, 'kvm', 'the x2APIC id of the guest'],
  ['reserved_id', 'u32', 4316, 'reserved', 'must be 0'],
  ['stack_base', 'u64', 4320, 'kvm', 'lowest byte; holds the CCB address'],
  ['stack_size', 'u64', 4328, 'kvm', 'a power of two, and the alignment'],
  ['ssp', 'u64', 4336, 'kvm', 'initial shadow-stack pointer, 0 without'],
  ['interrupt_ssp_table', 'u64', 4344, 'kvm', 'of the shadow stacks for IST, 0 without'],
  ['config_address', 'u64', 4352, 'kvm', 'of struct caretaker_config'],
  ['config_size', 'u64', 4360, 'kvm', 'in bytes'],
  ['telemetry_address', 'u64', 4368, 'kvm', 'of struct caretaker_telemetry'],
  ['telemetry_size', 'u64', 4376, 'kvm', 'in bytes'],
  ['soft_state_address', 'u64', 4384, 'kvm', 'of struct caretaker_soft_state'],
  ['soft_state_size', 'u64', 4392, 'kvm', 'in bytes'],
  ['reserved_kvm', 'u8*3792', 4400, 'reserved', 'must be 0'],
]);
