/**
 * The contract's headers with one thing changed, a row a rule of layouts, constants and versions.
 *
 * Source: abi/include/caretaker/ccb.h, compiled into an object with its control block.
 * Invariant: `abi check` holds the changed header against the contract, `abi diff` against the unchanged one.
 */
import type { RuleId } from '../../abi/compat/rules.js';

/** A change of the header's text, or of what becomes of the object. */
export interface HeaderVariant {
  readonly rule: RuleId;
  readonly command: 'check' | 'diff';
  readonly what: string;
  readonly from: string;
  readonly to: string;
  /** What is done to the object instead of the plain compilation. */
  readonly object?: 'stripped' | 'cut' | 'twice';
}

const CCB = 'struct caretaker_ccb {';
const END = '} __attribute__((aligned(CARETAKER_CCB_ALIGN)));';

// prettier-ignore
export const HEADER_VARIANTS: readonly HeaderVariant[] = [
  { rule: 'debug-info-missing', command: 'check', what: 'no debug information', from: CCB, to: CCB, object: 'stripped' },
  { rule: 'debug-info-bad', command: 'check', what: 'debug information that is cut', from: CCB, to: CCB, object: 'cut' },
  { rule: 'struct-missing', command: 'check', what: 'a control block of another name', from: CCB, to: 'struct caretaker_block {' },
  { rule: 'struct-unused', command: 'check', what: 'no telemetry', from: CCB, to: CCB },
  { rule: 'struct-conflict', command: 'check', what: 'two layouts of one structure', from: CCB, to: CCB, object: 'twice' },
  { rule: 'struct-size', command: 'check', what: 'a larger control block', from: 'reserved_kvm[3792]', to: 'reserved_kvm[7888]' },
  { rule: 'struct-align', command: 'check', what: 'a control block without its alignment', from: END, to: '};' },
  { rule: 'field-missing', command: 'check', what: 'a field that became reserved', from: 'u64 epoch;', to: 'u64 reserved_was_epoch;' },
  { rule: 'field-renamed', command: 'check', what: 'a field with another meaning', from: 'u64 epoch;', to: 'u64 generation;' },
  { rule: 'field-moved', command: 'diff', what: 'two fields that changed places', from: 'u32 vector;\n\t/*  140 */ u32 error_code;', to: 'u32 error_code;\n\t/*  140 */ u32 vector;' },
  { rule: 'field-resized', command: 'check', what: 'a wider state', from: 'u32 state; ', to: 'u64 state; ' },
  { rule: 'field-retyped', command: 'check', what: 'registers by halves', from: 'u64 registers[CARETAKER_REGISTERS]', to: 'u32 registers[2 * CARETAKER_REGISTERS]' },
  { rule: 'field-signedness', command: 'check', what: 'a vector with a sign', from: 'u32 vector;', to: 'int vector;' },
  { rule: 'field-bits', command: 'check', what: 'a vector of fewer bits', from: 'u32 vector;', to: 'u32 vector : 9;' },
  { rule: 'field-appended', command: 'diff', what: 'a field in reserved bytes', from: 'u64 reserved_features;', to: 'u64 more_features;' },
  { rule: 'field-unexpected', command: 'check', what: 'a field that the contract does not have', from: 'u64 reserved_features;', to: 'u64 more_features;' },
  { rule: 'reserved-reshaped', command: 'diff', what: 'reserved bytes in other words', from: 'u64 reserved_state[4];', to: 'u32 reserved_state[8];' },
  { rule: 'constant-value', command: 'check', what: 'another number for attached', from: 'KVM_ATTACHED = 1', to: 'KVM_ATTACHED = 2' },
  { rule: 'constant-missing', command: 'diff', what: 'no detached state', from: 'KVM_DETACHED = 0,', to: '' },
  { rule: 'constant-added', command: 'diff', what: 'a third state', from: 'KVM_ATTACHED = 1,', to: 'KVM_ATTACHED = 1, KVM_ATTACHING = 2,' },
  { rule: 'version-lowered', command: 'diff', what: 'a lower version', from: '#define CARETAKER_CCB_VERSION 2', to: '#define CARETAKER_CCB_VERSION 1' },
  { rule: 'version-unchanged', command: 'diff', what: 'a changed layout under the same version', from: 'u64 reserved_features;', to: 'u64 more_features;' },
  { rule: 'magic-changed', command: 'diff', what: 'another magic', from: '0x3142434352414321ull', to: '0x3142434352414322ull' },
];
