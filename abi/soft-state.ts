/**
 * Soft state: what the guest sees of its vCPU and no VMCS field holds, one page per vCPU.
 *
 * Source: CONTRACT ("Soft state"); include/caretaker/soft-state.h says the same in C.
 * Invariant: only posted, posted_nmi and pi_desc are written by others than who runs the vCPU. What is `of the host` KVM takes, and
 * clears, at every routed exit, with its own IDT in place.
 */
import { CARETAKER_HEADER, struct } from './layout.js';
import { CARETAKER_MSR_MAX } from './config.js';
import { PI_DESC } from './posted-interrupt.js';

export const CARETAKER_SOFT_STATE_MAGIC = 0x31544653_52414321n;
export const CARETAKER_SOFT_STATE_VERSION = 3;
export const CARETAKER_SOFT_STATE_SIZE = 4096;

// prettier-ignore
export const CARETAKER_SOFT_STATE = struct('caretaker_soft_state', 4096, [
  ['header', CARETAKER_HEADER, 0, 'kvm', 'magic, version, size'],
  ['tsc_deadline', 'u64', 16, 'owner', 'guest TSC at which the timer fires, 0 disarmed'],
  ['tpr', 'u32', 24, 'owner', 'virtual task priority'],
  ['lvt_timer', 'u32', 28, 'owner', 'virtual LVT timer register'],
  ['irr', 'u64*4', 32, 'owner', 'virtual interrupt requests'],
  ['isr', 'u64*4', 64, 'owner', 'virtual interrupts in service'],
  ['tmr', 'u64*4', 96, 'owner', 'virtual trigger modes'],
  ['event_info', 'u32', 128, 'owner', 'event to inject again, bit 31 valid'],
  ['event_error_code', 'u32', 132, 'owner', 'of that event'],
  ['event_instruction_length', 'u32', 136, 'owner', 'of a software event'],
  ['acknowledged_vector', 'u32', 140, 'owner', 'of the host: an interrupt taken and not answered, 0 none'],
  ['virtual_nmi_pending', 'u32', 144, 'owner', 'an NMI for the guest waits'],
  ['apic_id', 'u32', 148, 'owner', 'the x2APIC id that the guest reads'],
  ['host_nmi_pending', 'u32', 152, 'owner', 'of the host: an NMI taken and not answered'],
  ['reserved_host', 'u32', 156, 'reserved', 'must be 0'],
  ['mcg_status', 'u64', 160, 'owner', 'of the host: IA32_MCG_STATUS of a machine check taken and not answered, 0 none'],
  ['reserved', 'u64*3', 168, 'reserved', 'must be 0'],
  ['posted', 'u64*4', 192, 'others', 'requests by others, LOCK OR before the kick'],
  ['posted_nmi', 'u32', 224, 'others', 'an NMI by others'],
  ['reserved_posted', 'u32*7', 228, 'reserved', 'must be 0'],
  ['msr_value', `u64*${CARETAKER_MSR_MAX}`, 256, 'owner', 'values kept by MSR policy, by entry'],
  ['pi_desc', PI_DESC, 768, 'others', 'requests by devices and processors'],
  ['reserved_tail', 'u8*3264', 832, 'reserved', 'must be 0'],
]);
