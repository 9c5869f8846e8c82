/**
 * What a value points to, and what that points to: `0x80fe8 stack+0xfe8 -> 0x102b1c caretaker_dispatch+0x8c`.
 *
 * Source: the telescope of pwndbg and gef.
 * Invariant: at most four steps, and none twice.
 */
import { hex, low32 } from '../../../../abi/uint.js';
import { unsignedOf } from '../../../../loader/dwarf/c-types.js';
import type { CoreView } from '../core-view.js';
import { addressName, placeText } from './names.js';
import type { Canvas } from './paint.js';

const MAX_STEPS = 4;
/** Below this a number is nobody's address. */
const LOWEST_ADDRESS = 0x1000n;

/** The chain that begins with a value. */
export function telescope(core: CoreView, value: bigint, canvas: Canvas): string {
  const arrow = canvas.isUnicode ? ' \u2192 ' : ' -> ';
  const seen = new Set<bigint>();
  const parts: string[] = [];
  let at = value;
  for (let step = 0; step < MAX_STEPS; step++) {
    const isPointer = at >= LOWEST_ADDRESS && !seen.has(at);
    const bytes = isPointer ? core.read(at, 8) : null;
    parts.push(bytes === null && step > 0 ? lastPart(at) : partOf(core, at, canvas));
    if (bytes === null) break;
    seen.add(at);
    if (core.sourceOf(at)?.hasCode(at) === true) break;
    at = unsignedOf(bytes);
  }
  return parts.join(arrow);
}

function partOf(core: CoreView, at: bigint, { paint }: Canvas): string {
  const name = addressName(core, at);
  if (name === null) return hex(at);
  const source = core.sourceOf(at);
  const line = source?.hasCode(at) === true ? source.lineAt(at) : null;
  const place = line === null || line.line === 0 ? '' : ` (${placeText(line.file, line.line)})`;
  return `${hex(at)} ${paint('symbol', name)}${place}`;
}

/** What is no address: a number, and its characters when all are printable. */
function lastPart(value: bigint): string {
  let text = '';
  for (let rest = value; rest > 0n; rest >>= 8n) {
    const code = low32(rest & 0xffn);
    if (code < 0x20 || code > 0x7e) return hex(value);
    text += String.fromCharCode(code);
  }
  return text.length >= 4 ? `${hex(value)} '${text}'` : hex(value);
}
