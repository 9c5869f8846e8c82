/**
 * Source lines and instructions around a stop, and backtraces, as text.
 *
 * Source: the context of pwndbg and gef.
 * Invariant: the line or instruction at the stop has an arrow; a file that is not here is said to be missing.
 */
import { hex } from '../../../../abi/uint.js';
import type { Disassembler } from '../../../cpu/disassembler.js';
import type { BacktraceEntry, Frame } from '../backtrace.js';
import type { CoreView } from '../core-view.js';
import type { SourceText } from '../source-text.js';
import { renderShort } from '../values/render.js';
import { variablesOf } from '../values/locate.js';
import { disassembleAround } from './disassembly.js';
import type { AnnotatedInstruction } from './disassembly.js';
import { placeText } from './names.js';
import type { Canvas } from './paint.js';
import { clipped, padded, widthOf } from './paint.js';

const TAB = '        ';

/** The source line of an address with `before` lines before and `after` after it; says so when there is none. */
export function sourceView(
  core: CoreView,
  text: SourceText,
  address: bigint,
  canvas: Canvas,
  before = 3,
  after = 4,
): readonly string[] {
  const source = core.sourceOf(address);
  const line = source?.lineAt(address) ?? null;
  if (line === null || line.line === 0) {
    const problem = source?.program.problem ?? null;
    return [problem === null ? 'no source line for this address' : `no source: ${problem}`];
  }
  const lines = text.lines(line.file);
  const head = placeText(line.file, line.line);
  if (lines === null) return [`${head}: source not found`];
  return linesAround(lines, line.line, before, after, canvas);
}

/** Numbered lines of a file, the one at `line` with an arrow. */
export function linesAround(
  lines: readonly string[],
  line: number,
  before: number,
  after: number,
  { paint, cutAt }: Canvas,
): readonly string[] {
  const first = Math.max(1, line - before);
  const last = Math.min(lines.length, line + after);
  const width = last.toString().length;
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => {
    const number = first + index;
    const isHere = number === line;
    const body = (lines[number - 1] ?? '').replaceAll('\t', TAB);
    const whole = clipped(
      `${isHere ? '>' : ' '} ${number.toString().padStart(width)}  ${body}`,
      cutAt,
    );
    return isHere ? paint('current', whole) : whole;
  });
}

/** Instructions around an address, with symbols and notes. */
export function codeView(
  core: CoreView,
  disassembler: Disassembler,
  address: bigint,
  canvas: Canvas,
  before = 3,
  after = 6,
): readonly string[] {
  const found = disassembleAround(core, disassembler, address, before, after);
  if (found.length === 0) return [`${hex(address)}: not mapped`];
  return instructionLines(found, canvas);
}

/** One line an instruction: arrow, address, symbol, text, note. */
export function instructionLines(
  found: readonly AnnotatedInstruction[],
  { columns, cutAt, paint }: Canvas,
): readonly string[] {
  // The names of one function are not repeated where there is little room.
  const isNarrow = columns < 120;
  const current = symbolOf(found.find(({ isCurrent }) => isCurrent) ?? found[0]);
  const labelOf = (one: AnnotatedInstruction): string => {
    if (one.label === null) return '';
    const isOwn = isNarrow && symbolOf(one) === current && one.label.includes('+');
    return isOwn ? `<${one.label.slice(current.length)}>` : `<${one.label}>`;
  };
  const labels = Math.max(0, ...found.map((one) => labelOf(one).length));
  const limit = isNarrow ? 26 : 40;
  const texts = Math.min(isNarrow ? 32 : 44, Math.max(0, ...found.map(({ text }) => text.length)));
  return found.map((one) => {
    const label = padded(
      cutAt === Infinity ? labelOf(one) : clipped(labelOf(one), limit),
      Math.min(labels, limit),
    );
    const arrow = one.isCurrent ? '>' : ' ';
    const head = `${arrow} ${hex(one.address)} ${label}  ${one.text}`;
    const wanted = widthOf(`${arrow} ${hex(one.address)} ${label}  `) + texts;
    const note = one.note === '' ? '' : `${padded('', wanted - widthOf(head))}  ; ${one.note}`;
    const whole = clipped(head + note, cutAt);
    return one.isCurrent ? paint('current', whole) : whole;
  });
}

function symbolOf(one: AnnotatedInstruction | undefined): string {
  return one?.label?.replace(/\+0x[0-9a-f]+$/, '') ?? '';
}

/** One line a frame, innermost first; `selected` has an arrow. */
export function backtraceView(
  core: CoreView,
  entries: readonly BacktraceEntry[],
  canvas: Canvas,
  selected = 0,
): readonly string[] {
  return entries.flatMap((entry, index) => {
    const { frame, name, isInlined, place, offset } = entry;
    const where = place === undefined ? '' : ` at ${placeText(place.file, place.line)}`;
    const start = offset === null || offset === 0 ? '' : `+${hex(offset)}`;
    const head = `${index === selected ? '>' : ' '} #${index.toString().padEnd(2)}`;
    const address = isInlined ? '' : ` ${hex(frame.address)}`;
    const call = `${name}${isInlined ? '' : start}(${parametersOf(core, entry)})`;
    const how = isInlined ? ' [inlined]' : frame.isInterrupted ? ' [interrupted]' : '';
    const guess = frame.found === 'frame-pointer' ? ' [by frame pointer]' : '';
    const line = clipped(`${head}${address} ${call}${where}${how}${guess}`, canvas.cutAt);
    return [index === selected ? canvas.paint('current', line) : line];
  });
}

function parametersOf(core: CoreView, { frame, name }: BacktraceEntry): string {
  return variablesOf(core, frame)
    .filter(({ isParameter, scope }) => isParameter && scope === name)
    .map((one) => `${one.name}=${renderShort(one.value, { isBare: true }, 24)}`)
    .join(', ');
}

/** The variables of a frame, innermost scope first. */
export function variablesView(core: CoreView, frame: Frame, canvas: Canvas): readonly string[] {
  const found = variablesOf(core, frame);
  if (found.length === 0) return ['no variables here'];
  const scopes = [...new Set(found.map(({ scope }) => scope))];
  return found.map(({ name, scope, value, isParameter }) => {
    const owner = scopes.length > 1 ? `${scope}: ` : '';
    const kind = isParameter ? ' (parameter)' : '';
    const text = renderShort(value, { sourceOf: (address) => core.sourceOf(address) }, 100);
    return clipped(`${owner}${name} = ${text}${kind}`, canvas.cutAt);
  });
}
