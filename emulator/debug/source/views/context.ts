/**
 * Everything at a stop on one screen: where, registers, source, code, stack, backtrace.
 *
 * Source: the context view of pwndbg and gef.
 * Invariant: no line is wider than the canvas; from 160 columns on registers and stack stand beside source and code.
 */
import { hex, low32, u64 } from '../../../../abi/uint.js';
import { unsignedOf } from '../../../../loader/dwarf/c-types.js';
import type { Disassembler } from '../../../cpu/disassembler.js';
import { backtraceOf } from '../backtrace.js';
import type { CoreView } from '../core-view.js';
import type { SourceText } from '../source-text.js';
import { backtraceView, codeView, sourceView } from './code.js';
import { placeText } from './names.js';
import { beside, clipped, rule, widthOf } from './paint.js';
import type { Canvas } from './paint.js';
import { generalView } from './registers.js';
import type { EarlierRegisters } from './registers.js';
import { telescope } from './telescope.js';
import { exitReasonText } from './vmcs.js';

/** What the context shows of a stop beside the core. */
export interface ContextOptions {
  /** `12:345`. */
  readonly position: string;
  /** Why the machine stopped, in words; empty when that needs no words. */
  readonly cause: string;
  /** `attached`, `detached`; empty when it is not known. */
  readonly attachment: string;
  readonly earlier: EarlierRegisters;
  readonly text: SourceText;
  readonly disassembler: Disassembler;
  readonly stackWords?: number;
}

const WIDE = 160;
const MAX_FRAMES = 8;
/** What a rule has around its title. */
const RULE_COLUMNS = 4;

/** The lines of the context at a stop. */
export function contextView(
  core: CoreView,
  options: ContextOptions,
  canvas: Canvas,
): readonly string[] {
  const isWide = canvas.columns >= WIDE;
  const left = isWide ? Math.floor(canvas.columns * 0.44) : canvas.columns;
  const right = isWide ? canvas.columns - left - 2 : canvas.columns;
  const one = { ...canvas, columns: left, cutAt: isWide ? left : canvas.cutAt };
  const other = { ...canvas, columns: right, cutAt: isWide ? right : canvas.cutAt };
  const rip = core.register('RIP');
  const line = core.sourceOf(rip)?.lineAt(rip) ?? null;
  const title = line === null || line.line === 0 ? 'source' : placeText(line.file, line.line);
  const registers = [rule('registers', one), ...generalView(core, options.earlier, one)];
  const stack = [rule('stack', one), ...stackView(core, options.stackWords ?? 6, one)];
  const source = [rule(title, other), ...sourceView(core, options.text, rip, other)];
  const code = [rule('code', other), ...codeView(core, options.disassembler, rip, other)];
  const frames = backtraceOf(core);
  const trace = [
    rule('backtrace', other),
    ...backtraceView(core, frames.slice(0, MAX_FRAMES), other),
    ...(frames.length > MAX_FRAMES ? [`  ... ${frames.length - MAX_FRAMES} more`] : []),
  ];
  const head = headlines(partsOf(core, options), canvas);
  if (isWide)
    return [...head, ...beside([...registers, ...stack], [...source, ...code, ...trace], left)];
  return [...head, ...registers, ...source, ...code, ...stack, ...trace];
}

/** Parts in a rule, and in a second line what has no room in it. */
function headlines(parts: readonly string[], canvas: Canvas): readonly string[] {
  const SEPARATOR = ' | ';
  let count = parts.length;
  while (count > 1 && widthOf(parts.slice(0, count).join(SEPARATOR)) + RULE_COLUMNS > canvas.cutAt)
    count--;
  const rest = parts.slice(count).join(SEPARATOR);
  const head = rule(parts.slice(0, count).join(SEPARATOR), canvas);
  return rest === '' ? [head] : [head, clipped(`   ${rest}`, canvas.cutAt)];
}

/** `12:345`, `breakpoint 1: ...`, `vCPU 0`, `exit HLT, attached`, `guest RIP 0x...`. */
function partsOf(core: CoreView, options: ContextOptions): readonly string[] {
  const { position, cause, attachment } = options;
  const reason = core.vmcsField('VM_EXIT_REASON');
  const exit = reason === null ? '' : `exit ${exitReasonText(low32(reason))}`;
  const guest = core.vmcsField('GUEST_RIP');
  const parts = [
    position,
    cause,
    `vCPU ${core.id}`,
    [exit, attachment].filter((part) => part !== '').join(', '),
    guest === null ? '' : `guest RIP ${hex(guest)}`,
  ];
  return parts.filter((part) => part !== '');
}

/** Words from RSP up, each with what it points to. */
export function stackView(core: CoreView, words: number, canvas: Canvas): readonly string[] {
  const rsp = core.register('RSP');
  const lines: string[] = [];
  for (let index = 0; index < words; index++) {
    const address = u64(rsp + BigInt(index * 8));
    const bytes = core.read(address, 8);
    const label = `+${hex(index * 8, 2)}`;
    if (bytes === null) {
      lines.push(`${label} ${hex(address)}: not mapped`);
      break;
    }
    const text = telescope(core, unsignedOf(bytes), canvas);
    lines.push(clipped(`${label} ${hex(address)}: ${text}`, canvas.cutAt));
  }
  return lines;
}
