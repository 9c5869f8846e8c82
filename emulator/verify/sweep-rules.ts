/**
 * Rules on single instructions, wherever they are in .text: reached or not, they are in the image.
 *
 * Source: CONTRACT ("Not the payload's to touch"); DESIGN ("The payload").
 * Invariant: the sweep begins anew at each named position, so data between functions hides nothing behind it.
 */
import { CARETAKER_CCB } from '../../abi/ccb.js';
import { finding } from '../../abi/compat/rules.js';
import type { Finding } from '../../abi/compat/rules.js';
import { fieldOf } from '../../abi/layout.js';
import { hex } from '../../abi/uint.js';
import type { CodeImage } from './code-image.js';
import { whereIs } from './code-image.js';
import { instructionAt, transferOf } from './instruction.js';
import type { CodeInstruction, IndirectTransfer } from './instruction.js';

/** A finding in code: `struct` is the place, `address` the instruction's. */
export function codeFinding(
  code: CodeImage,
  rule: Finding['rule'],
  at: number,
  expected: string,
  actual: string,
): Finding {
  const address = hex(code.address + BigInt(at));
  return { ...finding(rule, whereIs(code, at), '', expected, actual), address };
}

/** Names that compilers and kernels give code which a payload must not have. */
const THUNK =
  /^(__x86_(indirect|return)_thunk|__llvm_retpoline|__fentry__|mcount$|__stack_chk|__(k?asan|k?csan|kmsan|ubsan|sanitizer_cov|tsan)_)/;

/** All instructions of .text in order. */
export function* sweepText(code: CodeImage): Generator<CodeInstruction> {
  const { text, labels, entryPoints } = code;
  const starts = [...new Set([...labels, ...entryPoints].map(({ at }) => at))].sort(
    (a, b) => a - b,
  );
  let next = 0;
  for (let at = 0; at < text.length;) {
    while (next < starts.length && starts[next]! <= at) next++;
    const one = instructionAt(text, at);
    const end = starts[next] ?? text.length;
    if (one === null || at + one.form.length > end) {
      at++;
      continue;
    }
    yield one;
    at += one.form.length;
  }
}

/** Findings on single instructions and on names. */
export function sweepFindings(code: CodeImage): Finding[] {
  const found: Finding[] = [];
  const trampolines: number[] = [];
  const recent: CodeInstruction[] = [];
  for (const one of sweepText(code)) {
    const { at, system } = one;
    if (system?.isFpu === true) {
      found.push(codeFinding(code, 'vector-instruction', at, 'general registers', system.name));
    }
    const transfer = transferOf(code.text, one);
    switch (transfer.kind) {
      case 'jump':
      case 'branch':
      case 'call':
        if (transfer.target < 0 || transfer.target >= code.text.length) {
          const target = hex(code.address + BigInt(transfer.target));
          found.push(codeFinding(code, 'branch-outside-text', at, 'a target in .text', target));
        }
        break;
      case 'far':
        found.push(codeFinding(code, 'exit-undeclared', at, 'the trampoline', transfer.name));
        break;
      case 'indirect':
        if (isTrampoline(code, one, transfer, recent)) trampolines.push(at);
        else {
          const what = `an indirect ${transfer.isCall ? 'call' : 'jump'}`;
          found.push(codeFinding(code, 'exit-undeclared', at, 'the trampoline', what));
        }
        break;
      default:
    }
    recent.push(one);
    if (recent.length > LOOK_BACK) recent.shift();
  }
  for (const { name, at } of code.labels) {
    if (THUNK.test(name)) found.push(codeFinding(code, 'thunk', at, 'no such code', name));
  }
  return [...found, ...trampolineFindings(code, trampolines)];
}

function trampolineFindings(code: CodeImage, trampolines: readonly number[]): Finding[] {
  if (code.routingHandler === null) return [];
  return trampolines.length > 0
    ? []
    : [finding('trampoline-missing', '.text', '', 'a jump to routing_handler', 'none')];
}

const LOOK_BACK = 32;
const ROUTING_HANDLER = BigInt(fieldOf(CARETAKER_CCB, 'routing_handler').offset);

/** A jump to what routing_handler holds: from memory, or from a register that was just loaded from there. */
function isTrampoline(
  code: CodeImage,
  one: CodeInstruction,
  { isCall, register, memory }: IndirectTransfer,
  recent: readonly CodeInstruction[],
): boolean {
  if (code.routingHandler === null || isCall) return false;
  if (memory !== null) return namesHandler(code, one);
  const load = recent.findLast(
    ({ form }) =>
      form.map === 'one' &&
      (form.opcode === 0x8b || form.opcode === 0x89) &&
      (form.opcode === 0x8b ? form.reg : form.rm) === register,
  );
  return load !== undefined && load.form.opcode === 0x8b && namesHandler(code, load);
}

function namesHandler(code: CodeImage, { at, form }: CodeInstruction): boolean {
  const { memory } = form;
  if (memory === null || code.routingHandler === null || memory.index !== null) return false;
  if (memory.base === 'rip') {
    const next = code.address + BigInt(at + form.length);
    return next + memory.displacement === code.routingHandler;
  }
  if (memory.base === null && memory.segment === null) {
    return memory.displacement === code.routingHandler;
  }
  return memory.displacement === ROUTING_HANDLER;
}
