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
  'record-compatible':   { severity: 'error', explanation: 'the next kernel finds a record by its compatible string, and knows no other', example: 'kvm-caretaker-vcpu-v2, which only a newer kernel writes' },
  // The image: what the loader refuses, by what it is about.
  'image-refused':       { severity: 'error', explanation: 'KVM_SET_CARETAKER takes this file for no payload', example: 'a shared library; a segment that is writable and executable' },
  'ccb-placement':       { severity: 'error', explanation: '.ccb is one control block, alone on pages of its own', example: '.ccb aligned to 8 bytes' },
  'ccb-header':          { severity: 'error', explanation: 'the control block says which contract it follows: magic, version, size', example: '.header.version = 7' },
  'entry-point':         { severity: 'error', explanation: 'init, vmexit and run lie in .text, relocated, and vmexit is e_entry', example: 'ENTRY(caretaker_run) in the linker script' },
  'relocation-left':     { severity: 'error', explanation: 'nothing is left to link: R_X86_64_RELATIVE is all that KVM applies', example: 'an indirect function; a GOT' },
  'note-bad':            { severity: 'error', explanation: 'a note section is a whole sequence of notes', example: 'a .note section cut in its middle' },
  'note-ibt':            { severity: 'error', explanation: 'what the image says of itself agrees with the host it is for', example: '.note.gnu.property without IBT, where IBT is turned on' },
  // The code.
  'code-missing':        { severity: 'error', explanation: 'a file without linked code cannot be judged', example: 'an object file, whose calls lead nowhere yet' },
  'branch-outside-text': { severity: 'error', explanation: 'in the gap nothing but .text is mapped as code', example: 'jmp 0x100000' },
  'exit-undeclared':     { severity: 'error', explanation: 'the only way out of .text is a jump to what routing_handler holds', example: 'a call through a pointer; a jump table in .rodata; SYSRET' },
  'trampoline-missing':  { severity: 'warning', explanation: 'without a jump to what routing_handler holds no exit ever reaches KVM', example: 'a payload that only blocks' },
  'instruction-undefined': { severity: 'error', explanation: 'control reaches bytes that are no instruction', example: 'a jump into a string' },
  'vector-instruction':  { severity: 'error', explanation: 'x87, MMX, SSE and AVX registers hold guest values from VM exit on', example: 'a file compiled without -mgeneral-regs-only' },
  'red-zone':            { severity: 'error', explanation: 'an NMI that takes no other stack overwrites what lies below RSP', example: 'a leaf function compiled without -mno-red-zone' },
  'write-below-stack':   { severity: 'error', explanation: 'bytes far below RSP belong to nobody, or to a guard page', example: 'mov [rsp - 0x1000], rax' },
  'thunk':               { severity: 'error', explanation: 'a return address that is replaced breaks shadow stacks, and thunks lie in the kernel that goes away', example: '-mindirect-branch=thunk' },
  'stack-limit':         { severity: 'error', explanation: 'the stack that KVM gives has a size, and a guard below it', example: 'char log[16384] in a handler' },
  'stack-unbounded':     { severity: 'error', explanation: 'how deep the stack goes is known before it runs', example: 'a function that calls itself; alloca()' },
  'endbr-missing':       { severity: 'error', explanation: 'with indirect branch tracking an indirect target that does not begin with ENDBR64 is #CP', example: 'a trap stub without ENDBR64' },
  'init-failed':         { severity: 'error', explanation: 'init returns 0 on a host that offers everything', example: 'return -EINVAL' },
  'idt-gate':            { severity: 'error', explanation: 'all 256 gates are present 64-bit interrupt gates into .text, on the published code segment', example: 'an IDT of 32 gates' },
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
  /** Of the instruction, for findings in code. */
  readonly address?: string;
  /** The source line that it comes from, or that a header declares the field on; for findings in code. */
  readonly source?: { readonly file: string; readonly line: number };
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
