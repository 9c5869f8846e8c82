/**
 * The bytes of a payload file, read little-endian; 64-bit numbers stay bigint until they are known to be offsets.
 *
 * Invariant: contains() never wraps; slice() copies, so nothing that leaves here aliases the file.
 */
/** A half-open range of file offsets. */
export interface FileRange {
  readonly start: number;
  readonly end: number;
}

export class FileBytes {
  readonly bytes: Uint8Array;
  readonly length: number;
  readonly #view: DataView;

  constructor(bytes: Uint8Array) {
    // A Buffer's slice() aliases; a plain view's copies.
    this.bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.length = bytes.length;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  u8(offset: number): number {
    return this.#view.getUint8(offset);
  }
  u16(offset: number): number {
    return this.#view.getUint16(offset, true);
  }
  u32(offset: number): number {
    return this.#view.getUint32(offset, true);
  }
  u64(offset: number): bigint {
    return this.#view.getBigUint64(offset, true);
  }

  /** The 64-bit number as a float: exact below 2^53, and above that still above. For loops over large tables. */
  float64(offset: number): number {
    return this.u32(offset + 4) * 0x1_0000_0000 + this.u32(offset);
  }

  /** Whether the `size` bytes at `offset` are all in the file. */
  contains(offset: bigint, size: bigint): boolean {
    return offset + size <= BigInt(this.length);
  }

  /** A copy of `[offset, offset + length)`. */
  slice(offset: number, length: number): Uint8Array {
    return this.bytes.slice(offset, offset + length);
  }

  /** Whether `[offset, offset + length)` holds nothing but zeros. */
  isZero(offset: number, length: number): boolean {
    return this.bytes.subarray(offset, offset + length).every((byte) => byte === 0);
  }

  /**
   * The NUL-terminated string at `at` in the string table `[start, end)`, one character a byte; undefined when it does
   * not end within `maxBytes` or inside the table.
   */
  string(table: FileRange, at: number, maxBytes: number): string | undefined {
    const from = table.start + at;
    if (from >= table.end) return undefined;
    const window = this.bytes.subarray(from, Math.min(table.end, from + maxBytes + 1));
    const length = window.indexOf(0);
    return length < 0 ? undefined : latin1(window.subarray(0, length));
  }
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
}
