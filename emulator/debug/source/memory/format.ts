/**
 * Memory in the formats of gdb's `x`: `/8xg`, `/4i`, `/s`, and a hex dump.
 *
 * Source: gdb, "Examining Memory": a count, a format letter and a size letter in any order.
 * Invariant: each line begins with its address and the symbol there; memory that is not mapped ends the listing.
 */
import { hex, u64 } from '../../../../abi/uint.js';
import { unsignedOf } from '../../../../loader/dwarf/c-types.js';
import type { Disassembler } from '../../../cpu/disassembler.js';
import type { CoreView } from '../core-view.js';
import { SourceError } from '../errors.js';
import { renderCharacter, renderNumber } from '../values/render.js';
import type { Radix } from '../values/render.js';
import { disassembleAt } from '../views/disassembly.js';
import { addressName } from '../views/names.js';

/** What a `/nfu` asks for. */
export interface MemoryFormat {
  readonly count: number;
  readonly letter: FormatLetter;
  readonly sizeBytes: 1 | 2 | 4 | 8;
}

export type FormatLetter = 'x' | 'd' | 'u' | 'o' | 't' | 'a' | 'c' | 's' | 'i' | 'z';

const LETTERS: readonly string[] = ['x', 'd', 'u', 'o', 't', 'a', 'c', 's', 'i', 'z'];
const SIZES = { b: 1, h: 2, w: 4, g: 8 } as const;
const RADIX: Readonly<Record<string, Radix>> = {
  x: 'hex',
  d: 'decimal',
  u: 'unsigned',
  o: 'octal',
  t: 'binary',
  c: 'character',
};
const MAX_COUNT = 4096;
const MAX_STRING = 256;
const LINE_BYTES = 16;

/** What a format without letters means: 8 hex words of 8 bytes. */
export const DEFAULT_FORMAT: MemoryFormat = { count: 8, letter: 'x', sizeBytes: 8 };

/** Reads what follows the slash of `x/8xg`. @throws SourceError FORMAT. */
export function parseFormat(text: string, base: MemoryFormat = DEFAULT_FORMAT): MemoryFormat {
  let count: number | null = null;
  let letter: FormatLetter = base.letter;
  let sizeBytes: MemoryFormat['sizeBytes'] | null = null;
  for (const part of text.match(/\d+|./g) ?? []) {
    if (/^\d+$/.test(part)) count = Number.parseInt(part, 10);
    else if (part in SIZES) sizeBytes = SIZES[part as keyof typeof SIZES];
    else if (LETTERS.includes(part)) letter = part as FormatLetter;
    else {
      const known = 'formats are x d u o t a c s i z, sizes b h w g';
      throw new SourceError('FORMAT', `"${part}" of /${text} is no format or size: ${known}`);
    }
  }
  if (count !== null && (count < 1 || count > MAX_COUNT)) {
    throw new SourceError('FORMAT', `a count from 1 to ${MAX_COUNT}, not ${count}`);
  }
  const natural = letter === 'a' ? 8 : letter === 'c' || letter === 's' ? 1 : base.sizeBytes;
  const single = text === '' ? base.count : 1;
  return { count: count ?? single, letter, sizeBytes: sizeBytes ?? natural };
}

/** What was shown of memory. */
export interface Examined {
  readonly lines: readonly string[];
  /** The address at which it ends because nothing is mapped there; null when all was shown. */
  readonly unmapped: bigint | null;
}

/** Memory in a format. */
export function examine(
  core: CoreView,
  disassembler: Disassembler,
  address: bigint,
  format: MemoryFormat,
): Examined {
  if (format.letter === 'i') return instructions(core, disassembler, address, format.count);
  if (format.letter === 's') return strings(core, address, format.count);
  return units(core, address, format);
}

function instructions(
  core: CoreView,
  disassembler: Disassembler,
  address: bigint,
  count: number,
): Examined {
  const found = disassembleAt(core, disassembler, address, count);
  const lines = found.map((one) => `${label(core, one.address)}  ${one.text}`);
  const last = found.at(-1);
  const next = last === undefined ? address : u64(last.address + BigInt(last.bytes.length));
  return { lines, unmapped: found.length < count ? next : null };
}

function strings(core: CoreView, address: bigint, count: number): Examined {
  const lines: string[] = [];
  let next = address;
  for (let index = 0; index < count; index++) {
    const start = next;
    let text = '';
    let isEnded = false;
    while (!isEnded && text.length < MAX_STRING) {
      const byte = core.read(next, 1);
      if (byte === null) {
        if (next === start) return { lines, unmapped: next };
        break;
      }
      next = u64(next + 1n);
      isEnded = byte[0] === 0;
      if (!isEnded) text += renderCharacter(BigInt(byte[0]!)).slice(1, -1);
    }
    lines.push(`${label(core, start)}  "${text}"${isEnded ? '' : '...'}`);
  }
  return { lines, unmapped: null };
}

function units(
  core: CoreView,
  address: bigint,
  { count, letter, sizeBytes }: MemoryFormat,
): Examined {
  const perLine =
    letter === 'a' ? 1 : letter === 'c' ? 8 : letter === 't' ? 2 : LINE_BYTES / sizeBytes;
  const lines: string[] = [];
  let next = address;
  let shown: string[] = [];
  let start = address;
  const flush = (): void => {
    if (shown.length > 0) lines.push(`${label(core, start)}  ${shown.join('  ')}`);
    shown = [];
  };
  for (let index = 0; index < count; index++) {
    const bytes = core.read(next, sizeBytes);
    if (bytes === null) {
      flush();
      return { lines, unmapped: next };
    }
    if (shown.length === 0) start = next;
    shown.push(unit(core, unsignedOf(bytes), letter, sizeBytes));
    next = u64(next + BigInt(sizeBytes));
    if (shown.length === perLine) flush();
  }
  flush();
  return { lines, unmapped: null };
}

function unit(core: CoreView, value: bigint, letter: FormatLetter, sizeBytes: number): string {
  if (letter === 'a') {
    const name = addressName(core, value);
    return name === null ? hex(value) : `${hex(value)} <${name}>`;
  }
  const bits = sizeBytes * 8;
  if (letter === 'x' || letter === 'z') return hex(value, sizeBytes * 2);
  if (letter === 't') return value.toString(2).padStart(bits, '0');
  if (letter === 'c') {
    const code = renderNumber(value & 0xffn, 'decimal', 8);
    return `${code} ${renderCharacter(value)}`.padEnd(10);
  }
  const widest = renderNumber(
    (1n << BigInt(bits)) - 1n,
    letter === 'o' ? 'octal' : 'unsigned',
    bits,
  );
  return renderNumber(value, RADIX[letter], bits).padStart(widest.length);
}

function label(core: CoreView, address: bigint): string {
  const name = addressName(core, address);
  return name === null ? `${hex(address)}:` : `${hex(address)} <${name}>:`;
}

/** Bytes and characters, 16 a line; what is not mapped is left blank. */
export function hexdump(core: CoreView, address: bigint, sizeBytes: number): readonly string[] {
  const lines: string[] = [];
  const end = address + BigInt(Math.min(sizeBytes, MAX_COUNT * LINE_BYTES));
  // Short enough for a terminal of 80 columns wherever the payload lies.
  const digits = end <= 1n << 32n ? 8 : 16;
  for (let line = address - (address % 16n); line < end; line += 16n) {
    const cells = Array.from({ length: LINE_BYTES }, (_, index) => {
      const at = line + BigInt(index);
      return at < address || at >= end ? undefined : (core.read(u64(at), 1)?.[0] ?? null);
    });
    const bytes = cells.map((cell) =>
      cell === undefined ? '  ' : cell === null ? '??' : cell.toString(16).padStart(2, '0'),
    );
    const halves = [bytes.slice(0, 8).join(' '), bytes.slice(8).join(' ')].join('  ');
    const text = cells.map((cell) =>
      cell === undefined
        ? ' '
        : cell !== null && cell >= 32 && cell < 127
          ? String.fromCharCode(cell)
          : '.',
    );
    lines.push(`${hex(u64(line), digits)}  ${halves}  |${text.join('')}|`);
  }
  return lines;
}
