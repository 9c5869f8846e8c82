/**
 * Instructions with what a reader of hexadecimal wants to know: symbols, source lines, VMCS fields, MSRs, operands.
 *
 * Source: emulator/cpu/disassembler.ts for the text; SDM, "VMREAD", "VMWRITE", "RDMSR", "WRMSR" for the notes.
 * Invariant: a note about a register's value is made only for the instruction at RIP, whose registers are known, or from
 * an immediate that a move just before puts there.
 */
import { hex, low32, toIndex, u64 } from '../../../../abi/uint.js';
import { accessOf, fieldAt } from '../../../../abi/vmcs-fields.js';
import { unsignedOf } from '../../../../loader/dwarf/c-types.js';
import type { DisassembledInstruction, Disassembler } from '../../../cpu/disassembler.js';
import type { CoreView } from '../core-view.js';
import { registerNamed } from '../register-names.js';
import { renderNumber } from '../values/render.js';
import { addressName, msrLabel } from './names.js';

/** One instruction as a view shows it. */
export interface AnnotatedInstruction {
  readonly address: bigint;
  readonly bytes: Uint8Array;
  /** With symbols for addresses. */
  readonly text: string;
  /** What is known of its operands, empty when nothing is. */
  readonly note: string;
  /** The symbol and offset, or null. */
  readonly label: string | null;
  readonly isCurrent: boolean;
}

const MAX_LENGTH = 15;
const PAGE = 4096n;

/** Up to `count` instructions from an address, as far as memory is mapped. */
export function disassembleAt(
  core: CoreView,
  disassembler: Disassembler,
  address: bigint,
  count: number,
): readonly AnnotatedInstruction[] {
  const bytes = readUpTo(core, address, Math.min(count, 4096) * MAX_LENGTH);
  const found = disassembler.disassemble(bytes, address, count);
  return annotate(core, found);
}

/** The instructions around an address: some before it, found by the start of its function, and some after. */
export function disassembleAround(
  core: CoreView,
  disassembler: Disassembler,
  address: bigint,
  before: number,
  after: number,
): readonly AnnotatedInstruction[] {
  const symbol = core.sourceOf(address)?.symbolAt(address) ?? null;
  const distance = symbol === null ? 0 : symbol.offset;
  // Instructions have no fixed length: only from a known beginning are those before an address what they seem.
  const start = distance > 0 && distance < 8192 ? u64(address - BigInt(distance)) : address;
  const head = readUpTo(core, start, toIndex(u64(address - start)));
  const earlier = disassembler.disassemble(head, start);
  const isAligned = endOf(earlier) === address || earlier.length === 0;
  const kept = isAligned ? earlier.slice(-before) : [];
  const tail = readUpTo(core, address, after * MAX_LENGTH);
  return annotate(core, [
    ...(before === 0 ? [] : kept),
    ...disassembler.disassemble(tail, address, after),
  ]);
}

function endOf(instructions: readonly DisassembledInstruction[]): bigint | null {
  const last = instructions.at(-1);
  return last === undefined ? null : u64(last.address + BigInt(last.bytes.length));
}

/** Bytes from an address up to the first page that is not mapped. */
export function readUpTo(core: CoreView, address: bigint, sizeBytes: number): Uint8Array {
  const whole = core.read(address, sizeBytes);
  if (whole !== null) return whole;
  const parts: Uint8Array[] = [];
  let at = address;
  let left = sizeBytes;
  while (left > 0) {
    const step = Math.min(left, toIndex(PAGE - (at % PAGE)));
    const part = core.read(at, step);
    if (part === null) break;
    parts.push(part);
    at = u64(at + BigInt(step));
    left -= step;
  }
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

function annotate(
  core: CoreView,
  found: readonly DisassembledInstruction[],
): readonly AnnotatedInstruction[] {
  const rip = core.register('RIP');
  const known = new Map<string, bigint>();
  return found.map(({ address, bytes, text }) => {
    const isCurrent = address === rip;
    const note = noteOf(core, text, isCurrent, known, u64(address + BigInt(bytes.length)));
    remember(known, text);
    const label = addressName(core, address);
    return { address, bytes, text: withSymbols(core, text), note, label, isCurrent };
  });
}

/** Constants that straight-line code has just put into registers; anything else forgets them. */
function remember(known: Map<string, bigint>, text: string): void {
  const move = /^mov(?:abs)? (\w+), (0x[0-9a-f]+|\d+)$/.exec(text);
  const zero = /^xor (\w+), (\w+)$/.exec(text);
  const target = /^\w+ (\w+)/.exec(text)?.[1] ?? '';
  const part = registerNamed(target);
  if (move !== null && part !== null) known.set(part.register, BigInt(move[2]!));
  else if (zero !== null && zero[1] === zero[2] && part !== null) known.set(part.register, 0n);
  else if (/^(call|jmp|ret|iret|int|syscall)/.test(text)) known.clear();
  else if (part !== null) known.delete(part.register);
}

function noteOf(
  core: CoreView,
  text: string,
  isCurrent: boolean,
  known: ReadonlyMap<string, bigint>,
  next: bigint,
): string {
  const value = (name: string): bigint | null => {
    const part = registerNamed(name);
    if (part === null) return null;
    const constant = known.get(part.register);
    if (!isCurrent) return constant ?? null;
    const mask = (1n << BigInt(part.bits)) - 1n;
    return (core.register(part.register) >> BigInt(part.bitOffset)) & mask;
  };
  const vmx = /^(vmread|vmwrite) (.+), (.+)$/.exec(text);
  if (vmx !== null) return fieldNote(value(vmx[1] === 'vmread' ? vmx[3]! : vmx[2]!));
  if (/^(rdmsr|wrmsr)$/.test(text)) {
    const index = value('ecx');
    return index === null ? '' : msrLabel(low32(index));
  }
  const memory = /\[([^\]]+)\]/.exec(text);
  if (memory === null) return branchNote(core, text, isCurrent);
  return memoryNote(core, text, memory[1]!, isCurrent, next);
}

function fieldNote(encoding: bigint | null): string {
  if (encoding === null) return '';
  const access = accessOf(encoding);
  if (access === undefined) return `no VMCS field has encoding ${hex(encoding)}`;
  return `${fieldAt(access.slot).name}${access.high ? ' (high half)' : ''}`;
}

const CONDITIONS: Readonly<Record<string, (flags: bigint) => boolean>> = {
  e: (f) => (f & 0x40n) !== 0n,
  ne: (f) => (f & 0x40n) === 0n,
  b: (f) => (f & 1n) !== 0n,
  ae: (f) => (f & 1n) === 0n,
  be: (f) => (f & 0x41n) !== 0n,
  a: (f) => (f & 0x41n) === 0n,
  s: (f) => (f & 0x80n) !== 0n,
  ns: (f) => (f & 0x80n) === 0n,
  l: (f) => ((f & 0x80n) !== 0n) !== ((f & 0x800n) !== 0n),
  ge: (f) => ((f & 0x80n) !== 0n) === ((f & 0x800n) !== 0n),
  le: (f) => (f & 0x40n) !== 0n || ((f & 0x80n) !== 0n) !== ((f & 0x800n) !== 0n),
  g: (f) => (f & 0x40n) === 0n && ((f & 0x80n) !== 0n) === ((f & 0x800n) !== 0n),
};

function branchNote(core: CoreView, text: string, isCurrent: boolean): string {
  if (!isCurrent) return '';
  const condition = CONDITIONS[/^j([a-z]+) /.exec(text)?.[1] ?? ''];
  if (condition === undefined) return '';
  return condition(core.register('RFLAGS')) ? 'taken' : 'not taken';
}

const SIZES: Readonly<Record<string, number>> = { byte: 1, word: 2, dword: 4, qword: 8 };

/** What the memory operand names, and at RIP what it holds. */
function memoryNote(
  core: CoreView,
  text: string,
  operand: string,
  isCurrent: boolean,
  next: bigint,
): string {
  // Off RIP and off the bases of FS and GS an address is the same for a while; other registers change.
  const isFixed = /^(rip|0x[0-9a-f]+|\d+)(\s*[+-]\s*(0x[0-9a-f]+|\d+))*$/.test(operand);
  if (!isCurrent && !isFixed) return '';
  const address = addressOf(core, text, operand, next);
  if (address === null) return '';
  const name = addressName(core, address);
  const where = name ?? hex(address);
  if (text.startsWith('lea ')) return where;
  const size = SIZES[/(byte|dword|qword|word) ptr/.exec(text)?.[1] ?? ''];
  const bytes = isCurrent && size !== undefined ? core.read(address, size) : null;
  return bytes === null ? where : `${where} = ${renderNumber(unsignedOf(bytes))}`;
}

function addressOf(core: CoreView, text: string, operand: string, next: bigint): bigint | null {
  let address = /\bgs:/.test(text) ? core.register('GS_BASE') : 0n;
  if (/\bfs:/.test(text)) address = core.register('FS_BASE');
  for (const [, sign, term] of operand.matchAll(/([+-]?)\s*([^+\-\s]+(?:\*\d)?)/g)) {
    const [base = '', scale = '1'] = term!.split('*');
    const part = registerNamed(base);
    const isNumber = /^(0x[0-9a-f]+|\d+)$/.test(base);
    if (part === null && !isNumber) return null;
    const plain =
      part === null ? BigInt(base) : base === 'rip' ? next : core.register(part.register);
    const scaled = plain * BigInt(scale);
    address += sign === '-' ? -scaled : scaled;
  }
  return u64(address);
}

/** `call 0x102340` as `call caretaker_dispatch`. */
function withSymbols(core: CoreView, text: string): string {
  return text.replace(
    /^(call|jmp|j[a-z]+|loop\w*) (0x[0-9a-f]+)$/,
    (whole, name: string, target: string) => {
      const symbol = addressName(core, BigInt(target));
      return symbol === null ? whole : `${name} ${target} <${symbol}>`;
    },
  );
}
