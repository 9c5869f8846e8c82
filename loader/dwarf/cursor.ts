/**
 * Reads one section forwards: fixed-size numbers, LEB128, strings, blocks.
 *
 * Source: DWARF 5, "Data Representation". Invariant: no read leaves `[0, end)`; one that would is TRUNCATED.
 */
import { joinHalves, s64, u64 } from '../../abi/uint.js';
import { refuseDwarf } from './errors.js';

const HIGH = 0x1_0000_0000;
const LATIN = new TextDecoder('latin1');
const UTF8 = new TextDecoder('utf-8');

/** A position in a section's bytes. */
export class Cursor {
  readonly section: string;
  readonly bytes: Uint8Array;
  readonly end: number;
  offset: number;

  constructor(section: string, bytes: Uint8Array, offset = 0, end = bytes.length) {
    this.section = section;
    this.bytes = bytes;
    this.offset = offset;
    this.end = Math.min(end, bytes.length);
    if (offset > this.end) this.#truncated();
  }

  /** Whether nothing is left. */
  get isAtEnd(): boolean {
    return this.offset >= this.end;
  }

  /** Moves past `length` bytes and gives where they began. */
  skip(length: number): number {
    const at = this.offset;
    if (!(length >= 0 && length <= this.end - at)) this.#truncated();
    this.offset = at + length;
    return at;
  }

  u8(): number {
    if (this.offset >= this.end) this.#truncated();
    return this.bytes[this.offset++]!;
  }
  s8(): number {
    return (this.u8() << 24) >> 24;
  }
  u16(): number {
    const at = this.skip(2);
    return this.bytes[at]! | (this.bytes[at + 1]! << 8);
  }
  u24(): number {
    return this.u16() + this.u8() * 0x1_0000;
  }
  u32(): number {
    const at = this.skip(4);
    const { bytes } = this;
    return (
      (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0
    );
  }
  u64(): bigint {
    const low = this.u32();
    return joinHalves(this.u32(), low);
  }

  /** A 64-bit number that is an address, offset or count. @throws DwarfError NUMBER_TOO_LARGE above 2^53. */
  index64(): number {
    const at = this.offset;
    const low = this.u32();
    return this.#index(this.u32() * HIGH + low, at);
  }

  /** A number of `length` bytes: 1, 2, 4 or 8. */
  unsigned(length: number): number {
    switch (length) {
      case 1:
        return this.u8();
      case 2:
        return this.u16();
      case 4:
        return this.u32();
      case 8:
        return this.index64();
      default:
        return refuseDwarf('BAD_FORM', `a number of ${length} bytes`, this.#where(this.offset));
    }
  }

  /** An unsigned LEB128 number of up to 64 bits. */
  uleb(): bigint {
    return this.#leb().value;
  }

  /** A signed LEB128 number of up to 64 bits. */
  sleb(): bigint {
    const { value, bits, isNegative } = this.#leb();
    return isNegative && bits < 70 ? value - (1n << BigInt(bits)) : s64(value);
  }

  /** An unsigned LEB128 number that is an offset or count. @throws DwarfError NUMBER_TOO_LARGE above 2^53. */
  index(): number {
    const at = this.offset;
    let value = 0;
    let scale = 1;
    for (;;) {
      const byte = this.u8();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return this.#index(value, at);
      scale *= 128;
    }
  }

  /** A signed LEB128 number of at most 53 bits. */
  signedIndex(): number {
    const at = this.offset;
    let value = 0;
    let scale = 1;
    for (;;) {
      const byte = this.u8();
      value += (byte & 0x7f) * scale;
      scale *= 128;
      if (byte < 0x80) {
        const signed = (byte & 0x40) === 0 ? value : value - scale;
        return Number.isSafeInteger(signed) ? signed : this.#index(Infinity, at);
      }
    }
  }

  /** Moves past a LEB128 number. */
  skipLeb(): void {
    while (this.u8() >= 0x80);
  }

  /** Moves past a NUL-terminated string and gives where it began. */
  skipString(): number {
    const at = this.offset;
    const nul = this.bytes.indexOf(0, at);
    if (nul === -1 || nul >= this.end) refuseDwarf('BAD_STRING', 'no NUL', this.#where(at));
    this.offset = nul + 1;
    return at;
  }

  /** A NUL-terminated string. */
  string(): string {
    const at = this.skipString();
    return decode(this.bytes, at, this.offset - 1);
  }

  /** A view of the next `length` bytes; it aliases the section. */
  block(length: number): Uint8Array {
    const at = this.skip(length);
    return this.bytes.subarray(at, at + length);
  }

  #leb(): { value: bigint; bits: number; isNegative: boolean } {
    let value = 0n;
    let bits = 0;
    for (;;) {
      const byte = this.u8();
      if (bits < 64) value |= BigInt(byte & 0x7f) << BigInt(bits);
      bits = Math.min(bits + 7, 70);
      if (byte < 0x80) {
        return { value: u64(value), bits, isNegative: (byte & 0x40) !== 0 };
      }
    }
  }

  #index(value: number, at: number): number {
    return Number.isSafeInteger(value)
      ? value
      : refuseDwarf('NUMBER_TOO_LARGE', 'a number above 2^53', this.#where(at));
  }

  #where(offset: number): { section: string; offset: number } {
    return { section: this.section, offset };
  }

  #truncated(): never {
    refuseDwarf(
      'TRUNCATED',
      `${this.section} ends at offset ${this.end}`,
      this.#where(this.offset),
    );
  }
}

/** The bytes as text: UTF-8, which is Latin-1 for nearly every name. */
export function decode(bytes: Uint8Array, start: number, end: number): string {
  for (let at = start; at < end; at++) {
    if (bytes[at]! >= 0x80) return UTF8.decode(bytes.subarray(start, end));
  }
  return LATIN.decode(bytes.subarray(start, end));
}
