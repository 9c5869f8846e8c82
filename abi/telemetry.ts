/**
 * Telemetry: exit counters, stalls, the last exit and the park record of one vCPU.
 *
 * Source: the RFC, "Gap Observability and Telemetry"; include/caretaker/telemetry.h says the same in C.
 * Invariant: an exit has exactly one first outcome; a stall has a record or is counted as dropped.
 */
import { CARETAKER_HEADER, struct } from './layout.js';

export const CARETAKER_TELEMETRY_MAGIC = 0x314c4554_52414321n;
export const CARETAKER_TELEMETRY_VERSION = 1;
export const CARETAKER_TELEMETRY_REASONS = 96;
export const CARETAKER_STALL_RING = 64;

// prettier-ignore
export const CARETAKER_COUNTERS = struct('caretaker_counters', 24, [
  ['fastpath', 'u64', 0, 'payload', 'answered by the payload'],
  ['routed', 'u64', 8, 'payload', 'handed to KVM at once'],
  ['blocked', 'u64', 16, 'payload', 'waited for KVM'],
]);

// prettier-ignore
export const CARETAKER_STALL = struct('caretaker_stall', 40, [
  ['exit_reason', 'u32', 0, 'payload', 'whole exit-reason word'],
  ['reserved', 'u32', 4, 'reserved', 'must be 0'],
  ['qualification', 'u64', 8, 'payload', 'of the blocked exit'],
  ['rip', 'u64', 16, 'payload', 'the guest RIP'],
  ['tsc_entry', 'u64', 24, 'payload', 'host TSC before the spin'],
  ['tsc_release', 'u64', 32, 'payload', 'host TSC when the flag or a request was seen'],
]);

// prettier-ignore
export const CARETAKER_TELEMETRY = struct('caretaker_telemetry', 8192, [
  ['header', CARETAKER_HEADER, 0, 'kvm', 'magic, version, size'],
  ['total', CARETAKER_COUNTERS, 16, 'payload', 'sum over all reasons'],
  ['other', CARETAKER_COUNTERS, 40, 'payload', 'reasons past the table'],
  ['entry_failures', 'u64', 64, 'payload', 'exits with bit 31; in no other counter'],
  ['stray_interrupts', 'u64', 72, 'payload', 'external interrupts nobody wanted'],
  ['nmis', 'u64', 80, 'payload', 'NMIs serviced'],
  ['machine_checks', 'u64', 88, 'payload', 'machine checks survived'],
  ['stall_tsc', 'u64', 96, 'payload', 'sum over all stalls, in TSC ticks'],
  ['stall_head', 'u64', 104, 'payload', 'records ever written'],
  ['stall_tail', 'u64', 112, 'kvm', 'records read'],
  ['stall_dropped', 'u64', 120, 'payload', 'stalls without a record: the ring was full'],
  ['last_exit_reason', 'u32', 128, 'payload', 'whole exit-reason word'],
  ['reserved_last', 'u32', 132, 'reserved', 'must be 0'],
  ['last_qualification', 'u64', 136, 'payload', 'of the last exit'],
  ['last_rip', 'u64', 144, 'payload', 'guest RIP of the last exit'],
  ['last_tsc', 'u64', 152, 'payload', 'host TSC at the last exit'],
  ['park_valid', 'u32', 160, 'payload', '1 when the core is parked'],
  ['park_vector', 'u32', 164, 'payload', 'of the fault'],
  ['park_error_code', 'u32', 168, 'payload', 'of the fault'],
  ['park_exit_reason', 'u32', 172, 'payload', 'the exit being handled'],
  ['park_rip', 'u64', 176, 'payload', 'of the fault'],
  ['park_cr2', 'u64', 184, 'payload', 'of a page fault'],
  ['park_tsc', 'u64', 192, 'payload', 'host TSC'],
  ['reserved', 'u64*7', 200, 'reserved', 'must be 0'],
  ['reason', [CARETAKER_COUNTERS, CARETAKER_TELEMETRY_REASONS], 256, 'payload', 'by basic exit reason'],
  ['stall', [CARETAKER_STALL, CARETAKER_STALL_RING], 2560, 'payload', 'ring of stalls, index modulo its length'],
  ['reserved_tail', 'u8*3072', 5120, 'reserved', 'must be 0'],
]);
