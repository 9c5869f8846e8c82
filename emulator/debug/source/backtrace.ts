/**
 * The frames of a stopped core: from call frame information, else by frame pointers, with inlined calls as frames.
 *
 * Source: DWARF 5, "Call Frame Information"; x86-64 psABI, "DWARF Register Number Mapping" and "The Stack Frame".
 * Invariant: the stack pointer of each caller lies above that of its callee, unless an event moved to another stack;
 * the walk ends at a frame whose return address is undefined, at one outside the image, or after 64.
 */
import { toIndex, u64 } from '../../../abi/uint.js';
import { unsignedOf } from '../../../loader/dwarf/c-types.js';
import { DWARF_REGISTERS } from '../../../loader/dwarf/constants.js';
import type { FrameRow, RegisterRule } from '../../../loader/dwarf/frame-program.js';
import type { SourceFrame } from '../../../loader/dwarf/functions.js';
import type { RegisterName } from '../../cpu/registers.js';
import type { CoreView } from './core-view.js';

const MAX_FRAMES = 64;
const RBP = 6;
const RSP = 7;
const RIP = 16;

/** One function that has code of its own and has not returned. */
export interface Frame {
  /** The next instruction to execute in it. */
  readonly address: bigint;
  /** An address of the instruction that is being executed: of a caller, inside the call. */
  readonly lookup: bigint;
  /** Values by DWARF number; a register that was not saved is not there. */
  readonly registers: ReadonlyMap<number, bigint>;
  /** The canonical frame address; null without call frame information. */
  readonly cfa: bigint | null;
  /** How it was found. */
  readonly found: 'registers' | 'cfi' | 'frame-pointer';
  /** An event interrupted this frame: it called nothing. */
  readonly isInterrupted: boolean;
}

/** One line of a backtrace: a frame, or a call that was inlined into one. */
export interface BacktraceEntry {
  readonly frame: Frame;
  readonly name: string;
  readonly isInlined: boolean;
  readonly place: SourceFrame['place'];
  /** From the start of the symbol; null for inlined calls, which have no start. */
  readonly offset: number | null;
}

/** The frames of a core, innermost first. */
export function framesOf(core: CoreView): readonly Frame[] {
  const frames: Frame[] = [];
  let frame: Frame | null = registersFrame(core);
  while (frame !== null && frames.length < MAX_FRAMES) {
    const { row, cfa } = cfaOf(core, frame);
    frames.push({ ...frame, cfa });
    frame = row !== null && cfa !== null ? callerOf(core, frame, row, cfa) : byPointer(core, frame);
    if (frame !== null && core.sourceOf(frame.lookup)?.hasCode(frame.lookup) !== true) break;
  }
  return frames;
}

/** The innermost frame alone. */
export function innermostFrame(core: CoreView): Frame {
  const frame = registersFrame(core);
  return { ...frame, cfa: cfaOf(core, frame).cfa };
}

/** The backtrace with inlined calls, innermost first. */
export function backtraceOf(core: CoreView): readonly BacktraceEntry[] {
  return framesOf(core).flatMap((frame): BacktraceEntry[] => {
    const source = core.sourceOf(frame.lookup);
    const chain = source?.chainAt(frame.lookup) ?? [];
    const symbol = source?.symbolAt(frame.address) ?? null;
    if (chain.length === 0) {
      const name = symbol?.name ?? '??';
      return [{ frame, name, isInlined: false, place: undefined, offset: symbol?.offset ?? null }];
    }
    return chain.map(({ name, isInlined, place }) => {
      const offset = isInlined ? null : offsetIn(core, frame, name);
      return { frame, name, isInlined, place, offset };
    });
  });
}

/** A register as a frame has it; null where nobody saved it. */
export function frameRegister(frame: Frame, dwarfNumber: number): bigint | null {
  return frame.registers.get(dwarfNumber) ?? null;
}

/** The register that DWARF knows by a number. */
export function registerOfDwarf(number: number): RegisterName | null {
  const name = DWARF_REGISTERS[number];
  return name === undefined ? null : (name.toUpperCase() as RegisterName);
}

function offsetIn(core: CoreView, frame: Frame, name: string): number | null {
  const source = core.sourceOf(frame.address);
  const symbol = source?.symbolAt(frame.address);
  if (symbol?.name === name) return symbol.offset;
  const start = source?.addressOf(name) ?? null;
  const isAfter = start !== null && start <= frame.address;
  return isAfter ? toIndex(frame.address - start) : null;
}

function registersFrame(core: CoreView): Frame {
  const registers = new Map<number, bigint>();
  DWARF_REGISTERS.forEach((name, number) => {
    registers.set(number, core.register(name.toUpperCase() as RegisterName));
  });
  const address = core.register('RIP');
  return {
    address,
    lookup: address,
    registers,
    cfa: null,
    found: 'registers',
    isInterrupted: false,
  };
}

function cfaOf(core: CoreView, frame: Frame): { row: FrameRow | null; cfa: bigint | null } {
  const source = core.sourceOf(frame.lookup);
  const linked = source?.linked(frame.lookup) ?? 0n;
  const row = source?.program.ask(({ frames }) => frames.at(linked) ?? null) ?? null;
  if (row?.cfa.kind !== 'register') return { row: null, cfa: null };
  const base = frame.registers.get(row.cfa.register);
  return { row, cfa: base === undefined ? null : u64(base + BigInt(row.cfa.offset)) };
}

function callerOf(core: CoreView, frame: Frame, row: FrameRow, cfa: bigint): Frame | null {
  // Without a rule a register is its caller's, but for the stack pointer, which the CFA is.
  const registers = new Map(frame.registers);
  registers.set(RSP, cfa);
  for (const [register, rule] of row.rules) {
    const value = valueOf(core, frame, rule, register, cfa);
    if (value === null) registers.delete(register);
    else registers.set(register, value);
  }
  const rule = row.rules.get(row.returnRegister);
  const address = rule === undefined ? undefined : registers.get(row.returnRegister);
  if (address === undefined) return null;
  registers.set(RIP, address);
  const moved = registers.get(RSP) ?? 0n;
  const before = frame.registers.get(RSP) ?? 0n;
  if (!row.isSignal && moved <= before) return null;
  // The address after a call may belong to the next line, or to nobody.
  const lookup = row.isSignal ? address : u64(address - 1n);
  return { address, lookup, registers, cfa: null, found: 'cfi', isInterrupted: row.isSignal };
}

function valueOf(
  core: CoreView,
  frame: Frame,
  rule: RegisterRule,
  register: number,
  cfa: bigint,
): bigint | null {
  switch (rule.kind) {
    case 'same':
      return frame.registers.get(register) ?? null;
    case 'saved':
      return word(core, u64(cfa + BigInt(rule.offset)));
    case 'value':
      return u64(cfa + BigInt(rule.offset));
    case 'register':
      return frame.registers.get(rule.register) ?? null;
    case 'undefined':
    case 'expression':
      return null;
  }
}

/** The caller by the chain of saved RBPs: the word at RBP is the caller's, the one above it the return address. */
function byPointer(core: CoreView, frame: Frame): Frame | null {
  // What no frame information describes inside an image that has some was not called.
  const source = core.sourceOf(frame.lookup);
  if (source?.program.ask(({ frames }) => !frames.isEmpty) === true) return null;
  const rbp = frame.registers.get(RBP);
  const rsp = frame.registers.get(RSP);
  if (rbp === undefined || rsp === undefined || rbp < rsp || rbp % 8n !== 0n) return null;
  const saved = word(core, rbp);
  const address = word(core, u64(rbp + 8n));
  if (saved === null || address === null) return null;
  const registers = new Map([
    [RBP, saved],
    [RSP, u64(rbp + 16n)],
    [RIP, address],
  ]);
  const lookup = u64(address - 1n);
  return { address, lookup, registers, cfa: null, found: 'frame-pointer', isInterrupted: false };
}

function word(core: CoreView, address: bigint): bigint | null {
  const bytes = core.read(address, 8);
  return bytes === null ? null : unsignedOf(bytes);
}
