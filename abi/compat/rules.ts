/**
 * The rules of compatibility: an id, what it means on a running VM, and an example of what breaks it.
 *
 * Source: abi/README.md and CONTRACT ("Reachable and preserved"): the next kernel and the next payload read what this
 * one wrote. Invariant: every finding names one of these rules.
 */

/** How much a finding weighs: only an error makes a pair incompatible. */
export type Severity = 'error' | 'warning' | 'note';

/** One rule. */
export interface Rule {
  readonly severity: Severity;
  readonly explanation: string;
  readonly example: string;
}

// prettier-ignore
export const RULES = {
  'debug-info-missing':  { severity: 'error', explanation: 'a binary without debug information cannot be judged, so it does not pass', example: 'strip --strip-debug caretaker.elf' },
  'debug-info-bad':      { severity: 'error', explanation: 'debug information that cannot be read proves nothing', example: 'a truncated .debug_info' },
  'struct-missing':      { severity: 'error', explanation: 'a structure that both sides share is gone from the binary', example: 'the payload no longer declares struct caretaker_ccb' },
  'struct-unused':       { severity: 'note', explanation: 'the binary does not describe this structure, so nothing can be said of it', example: 'a payload that keeps no telemetry' },
  'struct-conflict':     { severity: 'error', explanation: 'two units of one binary lay out the same structure differently', example: 'one file compiled with -fpack-struct' },
  'struct-size':         { severity: 'error', explanation: 'a shared structure has the size that its reader maps and copies', example: 'u64 added behind reserved_kvm[3792]' },
  'struct-align':        { severity: 'error', explanation: 'a shared structure is aligned at least as its reader expects', example: '__attribute__((packed)) on struct caretaker_stall' },
  'field-missing':       { severity: 'error', explanation: 'a field that the other side reads is not there', example: 'epoch removed, its bytes made reserved' },
  'field-renamed':       { severity: 'error', explanation: 'the same bytes carry another meaning', example: 'stall_head becomes stall_count' },
  'field-moved':         { severity: 'error', explanation: 'the other side reads the field where it was', example: 'epoch from offset 4104 to 4112' },
  'field-resized':       { severity: 'error', explanation: 'the other side reads more or fewer bytes than are written', example: 'u32 state becomes u64 state' },
  'field-retyped':       { severity: 'error', explanation: 'the bytes of a field have another form', example: 'u64 registers[15] becomes u32 registers[30]' },
  'field-signedness':    { severity: 'error', explanation: 'the same bits are another number', example: 'u32 vector becomes s32 vector' },
  'field-bits':          { severity: 'error', explanation: 'a bit field lies at other bits', example: 'u32 valid:1 behind a new u32 busy:1' },
  'field-appended':      { severity: 'note', explanation: 'a field takes bytes that were reserved and 0, so an older reader does not miss it', example: 'u64 nested_eptp in reserved_kvm' },
  'field-unexpected':    { severity: 'error', explanation: 'a field lies in bytes that were no reserved field', example: 'a field put in padding, which nobody zeroed' },
  'reserved-reshaped':   { severity: 'note', explanation: 'reserved bytes are divided differently', example: 'u64 reserved[5] becomes u32 reserved[10]' },
  'constant-value':      { severity: 'error', explanation: 'an enumerator means another number', example: 'KVM_ATTACHED = 2' },
  'constant-missing':    { severity: 'error', explanation: 'an enumerator that the other side may write is not known', example: 'CARETAKER_PARKED removed' },
  'constant-added':      { severity: 'note', explanation: 'an older reader meets a number that it does not know', example: 'CARETAKER_DRAINING = 5' },
  'version-lowered':     { severity: 'error', explanation: 'versions only rise: the next reader would take new bytes for old ones', example: 'CARETAKER_CCB_VERSION from 2 to 1' },
  'version-unchanged':   { severity: 'warning', explanation: 'a layout that changes changes its version, so that a reader can tell', example: 'a field in reserved space under version 1' },
  'magic-changed':       { severity: 'error', explanation: 'another magic is another structure', example: 'CARETAKER_CCB_MAGIC of another project' },
  'record-gone':         { severity: 'error', explanation: 'the next kernel reads a record that this one no longer writes', example: 'struct kvm_vcpu_ser removed' },
} as const satisfies Readonly<Record<string, Rule>>;

/** Names a rule. */
export type RuleId = keyof typeof RULES;

/** One finding; `expected` and `actual` are texts for people and tools. */
export interface Finding {
  readonly rule: RuleId;
  readonly severity: Severity;
  readonly struct: string;
  readonly field: string;
  readonly expected: string;
  readonly actual: string;
}

/** A finding of a rule, with the rule's severity. */
export function finding(
  rule: RuleId,
  struct: string,
  field: string,
  expected: string,
  actual: string,
): Finding {
  return { rule, severity: RULES[rule].severity, struct, field, expected, actual };
}

/** Whether no finding is an error. */
export function isCompatible(findings: readonly Finding[]): boolean {
  return !findings.some(({ severity }) => severity === 'error');
}
