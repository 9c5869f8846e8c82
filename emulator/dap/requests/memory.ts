/**
 * Memory and instructions by reference.
 *
 * Source: the Debug Adapter Protocol (`readMemory`, `writeMemory`, `disassemble`).
 * Invariant: what is not mapped is counted as unreadable; an instruction that cannot be decoded or has no memory is one
 * of presentation `invalid`, so that a client gets as many as it asked for.
 */
import { hex, u64 } from '../../../abi/uint.js';
import { sessionEdits } from '../../debug/source/session-edit.js';
import type { LaneView } from '../../debug/source/lane-view.js';
import { disassembleAt, readUpTo } from '../../debug/source/views/disassembly.js';
import type { AnnotatedInstruction } from '../../debug/source/views/disassembly.js';
import { address, DapError, text, whole } from '../arguments.js';
import type { Arguments } from '../arguments.js';
import type { AdapterState } from '../state.js';
import { sourceOf } from './stack.js';

const MAX_BYTES = 1 << 20;
const MAX_INSTRUCTIONS = 4096;
/** A function longer than that is not decoded from its start. */
const MAX_FUNCTION = 1 << 14;

/** readMemory. */
export function readMemory(state: AdapterState, args: Arguments): unknown {
  const start = startOf(args);
  const count = whole(args, 'count');
  if (count < 0) throw new DapError('BAD_ARGUMENT', 'count is below 0');
  const wanted = Math.min(count, MAX_BYTES);
  const bytes = readUpTo(coreAt(state, start), start, wanted);
  const data = Buffer.from(bytes).toString('base64');
  const missing = wanted - bytes.length;
  return { address: hex(start), data, ...(missing > 0 ? { unreadableBytes: missing } : {}) };
}

/** writeMemory. */
export function writeMemory(state: AdapterState, args: Arguments): unknown {
  const bytes = new Uint8Array(Buffer.from(text(args, 'data'), 'base64'));
  const start = startOf(args);
  const core = coreAt(state, start);
  for (const edit of sessionEdits(core, { kind: 'memory', address: start, bytes })) {
    state.session.edit(edit);
  }
  return { bytesWritten: bytes.length };
}

/** disassemble. */
export function disassemble(state: AdapterState, args: Arguments): unknown {
  const start = startOf(args);
  const core = coreAt(state, start);
  const skip = whole(args, 'instructionOffset', 0);
  const count = Math.min(whole(args, 'instructionCount'), MAX_INSTRUCTIONS);
  if (count < 0 || Math.abs(skip) > MAX_INSTRUCTIONS) {
    throw new DapError('BAD_ARGUMENT', 'a count or offset of instructions too large');
  }
  const before = skip < 0 ? instructionsBefore(state, core, start, -skip) : [];
  const after = Math.max(0, count + skip);
  const found = disassembleAt(core, state.level.disassembler, start, after);
  const known = [...before, ...found].map((one) => instruction(state, core, one));
  const shown = skip > 0 ? known.slice(skip) : known;
  // Nothing before the first known instruction, or after the last: as many as were asked for, all the same.
  const missing = skip < 0 ? -skip - before.length : 0;
  const head = Array.from({ length: missing }, (_, index) =>
    invalid(u64(firstOf(before, start) - BigInt(missing - index))),
  );
  const listed = [...head, ...shown].slice(0, count);
  const last = found.at(-1);
  const end = last === undefined ? start : last.address + BigInt(last.bytes.length);
  const tail = Array.from({ length: Math.max(0, count - listed.length) }, (_, index) =>
    invalid(u64(end + BigInt(index))),
  );
  return { instructions: [...listed, ...tail] };
}

function firstOf(before: readonly AnnotatedInstruction[], start: bigint): bigint {
  return before[0]?.address ?? start;
}

/** Instructions before an address, each function decoded from its start. */
function instructionsBefore(
  state: AdapterState,
  core: LaneView,
  start: bigint,
  count: number,
): readonly AnnotatedInstruction[] {
  let found: readonly AnnotatedInstruction[] = [];
  for (let end = start; found.length < count;) {
    const symbol = core.sourceOf(end - 1n)?.symbolAt(end - 1n) ?? null;
    if (symbol === null || symbol.offset >= MAX_FUNCTION) break;
    const from = u64(end - 1n - BigInt(symbol.offset));
    const all = disassembleAt(core, state.level.disassembler, from, symbol.offset + 1);
    const own = all.filter((one) => one.address < end);
    if (own.length === 0) break;
    found = [...own, ...found];
    end = from;
  }
  return found.slice(-count);
}

function instruction(
  state: AdapterState,
  core: LaneView,
  { address: at, bytes, text: body, note, label }: AnnotatedInstruction,
): unknown {
  const line = core.sourceOf(at)?.lineAt(at) ?? null;
  const hasLine = line !== null && line.line > 0;
  return {
    address: hex(at),
    instructionBytes: Buffer.from(bytes)
      .toString('hex')
      .replace(/..(?=.)/g, '$& '),
    instruction: note === '' ? body : `${body}  ; ${note}`,
    ...(label === null ? {} : { symbol: label }),
    ...(hasLine ? { location: sourceOf(state, line.file), line: line.line } : {}),
  };
}

function invalid(at: bigint): unknown {
  return { address: hex(at), instruction: '??', presentationHint: 'invalid' };
}

function startOf(args: Arguments): bigint {
  return u64(address(args, 'memoryReference') + BigInt(whole(args, 'offset', 0)));
}

/** A core that reaches an address, the stopped one before others: each has the tables of its own instance. */
function coreAt(state: AdapterState, start: bigint): LaneView {
  const stopped = state.stoppedCore;
  if (stopped === null) throw new DapError('NOT_NOW', 'no vCPU has run yet');
  if (stopped.physical(start) !== null) return stopped;
  const others = state.session.machine.lanes.map(({ id }) => state.level.core(state.session, id));
  return others.find((core) => core.physical(start) !== null) ?? stopped;
}
