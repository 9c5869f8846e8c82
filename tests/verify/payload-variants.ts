/**
 * The reference payload with one thing wrong, a row a rule of the image and of the code.
 *
 * Source: caretaker-payload/. A row names the text that is replaced in a copy of a file.
 * Invariant: every variant builds; the rule alone is what finds it.
 */
import type { ProfileName } from '../../abi/compat/profiles.js';
import type { RuleId } from '../../abi/compat/rules.js';

/** An edit of one file: the text, which must be there, and what comes in its place. */
export type Edit = readonly [file: string, from: string, to: string];

/** A payload that breaks one rule. */
export interface PayloadVariant {
  readonly rule: RuleId;
  readonly what: string;
  readonly edits: readonly Edit[];
  readonly profile?: ProfileName;
}

const ADVANCE = 'void caretaker_advance(u64 rip)\n{';
const inAdvance = (added: string): Edit => ['advance.c', ADVANCE, `${ADVANCE}\n${added}`];
const beforeAdvance = (added: string): Edit => ['advance.c', ADVANCE, `${added}\n${ADVANCE}`];
const asm = (text: string): Edit => inAdvance(`\t__asm__ volatile("${text}" ::: "memory");`);
const ASSERTS = 'ASSERT(SIZEOF(.ccb) == 8192, ".ccb is one struct caretaker_ccb")';

// prettier-ignore
export const PAYLOAD_VARIANTS: readonly PayloadVariant[] = [
  { rule: 'exit-undeclared', what: 'calls through a pointer', edits: [
    inAdvance('\tstatic void (*volatile hook)(void);\n\tif (hook)\n\t\thook();')] },
  { rule: 'exit-undeclared', what: 'leaves by a jump table in .rodata', edits: [
    asm('leaq 1f(%%rip), %%rax\\n\\tjmpq *%%rax\\n1:')] },
  { rule: 'exit-undeclared', what: 'returns to user mode', edits: [asm('sysretq')] },
  { rule: 'branch-outside-text', what: 'jumps past its own code', edits: [asm('jmp . + 0x100000')] },
  { rule: 'trampoline-missing', what: 'never reaches KVM', edits: [
    ['entry.S', 'jmpq	*CCB_ROUTING_HANDLER(%rsi)', 'ud2']] },
  { rule: 'instruction-undefined', what: 'runs into bytes that are no instruction', edits: [asm('.byte 0x06')] },
  { rule: 'vector-instruction', what: 'clears an XMM register', edits: [asm('xorps %%xmm0, %%xmm0')] },
  { rule: 'vector-instruction', what: 'initializes the x87', edits: [asm('fninit')] },
  { rule: 'red-zone', what: 'keeps a value below RSP', edits: [asm('movq %%rax, -8(%%rsp)')] },
  { rule: 'red-zone', what: 'reads what it left below RSP', edits: [asm('movq -16(%%rsp), %%rax')] },
  { rule: 'red-zone', what: 'has a frame below RSP, found by RBP', edits: [beforeAdvance(
    '__asm__(".text\\n.type leaf, @function\\nleaf: push %rbp\\nmov %rsp, %rbp\\nmov %rdi, -8(%rbp)\\npop %rbp\\nret\\n");\nvoid leaf(u64);'),
    inAdvance('\tleaf(rip);')] },
  { rule: 'write-below-stack', what: 'writes a page below RSP', edits: [asm('movq %%rax, -4096(%%rsp)')] },
  { rule: 'thunk', what: 'jumps by a return to an address that it stored', edits: [
    asm('call 1f\\n2: pause\\n\\tlfence\\n\\tjmp 2b\\n1: movq %%rax, (%%rsp)\\n\\tret')] },
  { rule: 'thunk', what: 'has code that a compiler calls a thunk', edits: [beforeAdvance(
    '__asm__(".text\\n__x86_return_thunk: ret\\n");')] },
  { rule: 'stack-limit', what: 'keeps a log of 16 KiB on the stack', edits: [
    inAdvance('\tvolatile u8 log[16384];\n\tlog[rip & 16383] = 1;\n\tif (log[0])\n\t\treturn;')] },
  { rule: 'stack-unbounded', what: 'calls itself', edits: [
    beforeAdvance('u64 __attribute__((__noinline__, __optimize__("O0"))) loops(u64 n);\nu64 loops(u64 n)\n{\n\treturn n ? loops(n / 2) + 1 : 0;\n}'),
    inAdvance('\tif (loops(rip) == 0)\n\t\treturn;')] },
  { rule: 'stack-unbounded', what: 'takes as much stack as a register says', edits: [
    inAdvance('\tvolatile u8 *buffer = __builtin_alloca(rip & 64);\n\tbuffer[0] = 1;')] },
  { rule: 'endbr-missing', what: 'has trap stubs without ENDBR64', profile: 'rfc-ibt', edits: [
    ['idt.S', '\tendbr64\n\t.if	!HAS_ERROR_CODE(vector)', '\t.if	!HAS_ERROR_CODE(vector)']] },
  { rule: 'endbr-missing', what: 'has an entry point without ENDBR64', profile: 'rfc-ibt', edits: [
    ['entry.S', 'FUNCTION caretaker_run\n\tendbr64', 'FUNCTION caretaker_run\n\tnop']] },
  { rule: 'idt-gate', what: 'fills 32 gates', edits: [
    ['init.c', 'vector < CARETAKER_VECTORS; vector++', 'vector < 32; vector++']] },
  { rule: 'init-failed', what: 'refuses every host', edits: [
    ['init.c', '\tbuild_idt();\n\tbuild_tss(ccb);', '\tif (ccb)\n\t\treturn -EINVAL;\n\tbuild_idt();\n\tbuild_tss(ccb);']] },
  { rule: 'image-refused', what: 'has an executable stack', edits: [
    ['caretaker.lds', 'stack	PT_GNU_STACK FLAGS(6)', 'stack	PT_GNU_STACK FLAGS(7)']] },
  { rule: 'ccb-placement', what: 'has more in .ccb than the control block', edits: [
    ['caretaker.lds', ASSERTS, 'ASSERT(SIZEOF(.ccb) > 0, "")'],
    ['init.c', 'struct caretaker_instance caretaker_instance;', 'static u8 more __attribute__((section(".ccb"), used)) = 1;\nstruct caretaker_instance caretaker_instance;']] },
  { rule: 'ccb-header', what: 'claims another version', edits: [
    ['init.c', '.header.version = CARETAKER_CCB_VERSION', '.header.version = 7']] },
  { rule: 'entry-point', what: 'begins at another entry than vmexit', edits: [
    ['caretaker.lds', 'ENTRY(caretaker_vmexit)', 'ENTRY(caretaker_run)']] },
  { rule: 'relocation-left', what: 'has a function that a resolver would choose', edits: [beforeAdvance(
    '__asm__(".text\\n.type pick, @gnu_indirect_function\\npick: ret\\n.data\\n.quad pick\\n.text\\n");')] },
];
