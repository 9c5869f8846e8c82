/**
 * Values as text: numbers with their names, structures with their fields, arrays with repeats folded.
 *
 * Source: gdb's print for the shape that people know (`name = value`, `<repeats>`, `(type *) 0x...`).
 * Invariant: the text of a whole value is bounded; what is left out is said.
 */
import { hex, low32, u64 } from '../../../../abi/uint.js';
import type { CArray, CEnumeration, CRecord } from '../../../../loader/dwarf/c-types.js';
import type { SourceMap } from '../source-map.js';
import { elementOf, memberOf } from './member.js';
import { isThere, isScalar, scalarOf } from './value.js';
import type { MaybeValue, Value } from './value.js';

/** How numbers are shown; `natural` is decimal for small ones and hex for large. */
export type Radix = 'natural' | 'hex' | 'decimal' | 'unsigned' | 'binary' | 'octal' | 'character';

/** What a rendering may use. */
export interface RenderOptions {
  readonly radix?: Radix;
  /** Names the addresses that pointers hold. */
  readonly sourceOf?: (address: bigint) => SourceMap | null;
  /** Leaves the types of pointers out. */
  readonly isBare?: boolean;
  /** Columns of the whole text; a record that does not fit has one field a line. */
  readonly width?: number;
}

const MAX_ELEMENTS = 200;
const MAX_TEXT_BYTES = 200;
const MAX_DEPTH = 16;
/** From here on a number is more likely an address or a mask than a count. */
const NATURAL_LIMIT = 1n << 16n;

/** The text of a value; a record may take several lines. */
export function render(value: MaybeValue, options: RenderOptions = {}, depth = 0): string {
  if (!isThere(value)) return `<${value.problem}>`;
  const { type } = value;
  if (depth > MAX_DEPTH) return '{...}';
  switch (type.kind) {
    case 'integer':
      if (type.meaning === 'boolean' && options.radix === undefined) {
        const number = scalarOf(value);
        return number === 0n ? 'false' : number === 1n ? 'true' : `true (${number.toString()})`;
      }
      if (type.meaning === 'character' && options.radix === undefined) {
        const number = scalarOf(value);
        return `${number.toString()} ${renderCharacter(number)}`;
      }
      return renderNumber(scalarOf(value), options.radix, widthOf(value));
    case 'enumeration':
      return renderEnumeration(value, type, options);
    case 'pointer':
      return renderPointer(value, options);
    case 'array':
      return renderArray(value, type, options, depth);
    case 'record':
      return renderRecord(value, type, options, depth);
    case 'void':
    case 'function':
    case 'other':
      return type.sizeBytes === 0 ? 'void' : rawBytes(value.bytes);
  }
}

/** A number in a radix; `bits` pads binary and cuts what is negative. */
export function renderNumber(value: bigint, radix: Radix = 'natural', bits = 64): string {
  const unsigned = u64(value) & ((1n << BigInt(bits)) - 1n);
  switch (radix) {
    case 'hex':
      return hex(unsigned);
    case 'decimal':
      return signedText(unsigned, bits);
    case 'unsigned':
      return unsigned.toString();
    case 'binary':
      return `0b${unsigned.toString(2)}`;
    case 'octal':
      return unsigned === 0n ? '0' : `0${unsigned.toString(8)}`;
    case 'character':
      return renderCharacter(unsigned & 0xffn);
    case 'natural':
      if (value < 0n) return value.toString();
      return value < NATURAL_LIMIT ? value.toString() : hex(value);
  }
}

function signedText(value: bigint, bits: number): string {
  const isNegative = value >> BigInt(bits - 1) === 1n;
  return (isNegative ? value - (1n << BigInt(bits)) : value).toString();
}

/** `'A'`, with what cannot be printed as an escape. */
export function renderCharacter(value: bigint): string {
  const code = u64(value) & 0xffn;
  const isPrintable = code >= 0x20n && code < 0x7fn;
  const text = String.fromCharCode(low32(code));
  if (text === "'" || text === '\\') return `'\\${text}'`;
  return isPrintable ? `'${text}'` : `'\\x${code.toString(16).padStart(2, '0')}'`;
}

function widthOf({ bits, bytes }: Value): number {
  return Math.max(1, Math.min(64, bits?.size ?? bytes.length * 8));
}

function renderEnumeration(value: Value, type: CEnumeration, options: RenderOptions): string {
  const number = scalarOf(value);
  const text = renderNumber(number, options.radix, widthOf(value));
  const name = enumeratorOf(type, number);
  return name === undefined ? text : `${text} (${name})`;
}

/** The name of a value of an enumeration, or of the bits that make it up. */
function enumeratorOf(type: CEnumeration, number: bigint): string | undefined {
  const wanted = u64(number);
  const exact = type.enumerators.find(({ value }) => value === wanted);
  if (exact !== undefined) return exact.name;
  const isFlag = ({ value }: { value: bigint }): boolean =>
    value > 0n && (value & (value - 1n)) === 0n;
  if (wanted === 0n || !type.enumerators.every((one) => one.value === 0n || isFlag(one))) {
    return undefined;
  }
  const set = type.enumerators.filter((one) => isFlag(one) && (wanted & one.value) !== 0n);
  const rest = set.reduce((left, { value }) => left & ~value, wanted);
  return rest === 0n && set.length > 0 ? set.map(({ name }) => name).join(' | ') : undefined;
}

function renderPointer(value: Value, options: RenderOptions): string {
  const address = u64(scalarOf(value));
  const symbol = options.sourceOf?.(address)?.symbolAt(address);
  const offset = symbol === undefined || symbol === null ? '' : signedOffset(symbol.offset);
  const name = symbol === undefined || symbol === null ? '' : ` <${symbol.name}${offset}>`;
  const type = options.isBare === true ? '' : `(${value.type.spelling}) `;
  return `${type}${hex(address)}${name}`;
}

function signedOffset(offset: number): string {
  return offset === 0 ? '' : `+${hex(offset)}`;
}

function renderArray(value: Value, type: CArray, options: RenderOptions, depth: number): string {
  const element = type.element();
  const count = type.count ?? 0;
  if (count === 0 || element.sizeBytes === 0) return '{}';
  if (element.kind === 'integer' && element.meaning === 'character') return text(value.bytes);
  const parts: string[] = [];
  let shown = 0;
  for (let index = 0; index < count && shown < MAX_ELEMENTS; shown++) {
    const one = elementOf(value, element, index);
    const repeats = repeatsAt(value.bytes, element.sizeBytes, index, count);
    const rendered = render(one, { ...options, width: 0 }, depth + 1);
    const isFolded = repeats > 3;
    parts.push(isFolded ? `${rendered} <repeats ${repeats} times>` : rendered);
    index += isFolded ? repeats : 1;
    if (index >= count) return `{${parts.join(', ')}}`;
  }
  return `{${parts.join(', ')}, ...}`;
}

function repeatsAt(bytes: Uint8Array, size: number, index: number, count: number): number {
  let end = (index + 1) * size;
  while (end < count * size && bytes[end] === bytes[end - size]) end++;
  return Math.floor(end / size) - index;
}

function text(bytes: Uint8Array): string {
  const nul = bytes.indexOf(0);
  const length = nul < 0 ? bytes.length : nul;
  const shown = Array.from(bytes.subarray(0, Math.min(length, MAX_TEXT_BYTES)), (byte) => {
    const inside = renderCharacter(BigInt(byte)).slice(1, -1);
    return inside === '"' ? '\\"' : inside === "\\'" ? "'" : inside;
  });
  return `"${shown.join('')}"${length > MAX_TEXT_BYTES ? '...' : ''}`;
}

function renderRecord(value: Value, type: CRecord, options: RenderOptions, depth: number): string {
  const fields = type.members().map((member) => {
    const inner = render(memberOf(value, member), options, depth + 1);
    return member.name === null ? inner : `${member.name} = ${inner}`;
  });
  const line = `{${fields.join(', ')}}`;
  const width = options.width ?? 100;
  if (width === 0 || (line.length + depth * 2 <= width && !line.includes('\n'))) return line;
  const indent = '  '.repeat(depth + 1);
  const lines = fields.map((field) => `${indent}${field}`);
  return `{\n${lines.join(',\n')}\n${'  '.repeat(depth)}}`;
}

function rawBytes(bytes: Uint8Array): string {
  const shown = Array.from(bytes.subarray(0, 16), (byte) => byte.toString(16).padStart(2, '0'));
  return `[${shown.join(' ')}${bytes.length > 16 ? ' ...' : ''}]`;
}

/** The value on one line, for lists and tables; a record or array by its type alone when it is long. */
export function renderShort(value: MaybeValue, options: RenderOptions, width = 60): string {
  const line = render(value, { ...options, width: 0 });
  if (line.length <= width || !isThere(value) || isScalar(value.type)) return line;
  return `${line.slice(0, Math.max(width - 4, 8))}...}`;
}
