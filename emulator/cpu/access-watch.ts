/**
 * Watched memory of one engine: accesses that are logged, and those that end a run.
 *
 * Invariant: the log is in program order, and nothing is lost of it to a snapshot. Pages without a watched byte keep
 * their speed.
 * Not modelled: accesses of the models themselves and fetches; executable pages cannot be watched.
 */
import { hex, toIndex } from '../../abi/uint.js';
import { PAGE_SIZE } from '../memory/physical-memory.js';
import { EngineError } from './engine-error.js';
import { COUNTER, nativeBinding, type NativeEngine } from './native-binding.js';
import type { LoggedAccess } from './port.js';
import type { SweptCode } from './swept-code.js';

const NONE: readonly LoggedAccess[] = [];
/** Numbers of a row of the native log: address, value, RIP, then size and kind. */
const ROW = 4;
const KIND_WRITE = 2;

export class AccessWatch {
  readonly #native: NativeEngine;
  readonly #words: Float64Array;
  readonly #code: SweptCode;
  readonly #memoryBytes: number;
  readonly #alive: () => void;
  /** Accesses that left the native log because of a snapshot. */
  readonly #held: LoggedAccess[] = [];

  /** `alive` throws once the engine was disposed. */
  constructor(
    native: NativeEngine,
    words: Float64Array,
    code: SweptCode,
    memoryBytes: number,
    alive: () => void,
  ) {
    this.#native = native;
    this.#words = words;
    this.#code = code;
    this.#memoryBytes = memoryBytes;
    this.#alive = alive;
  }

  /**
   * Logs accesses to [base, base + sizeBytes): a byte whose mask is not 0 is watched for reads or writes. Other loads and
   * stores keep their speed; those to a page with a watched byte take some fifty nanoseconds more, and reads that are
   * logged with the RIP of their own instruction, not their block's, several hundred.
   *
   * @throws EngineError ENGINE_DISPOSED, WATCH_ON_CODE, WATCH_OUTSIDE_MEMORY.
   */
  set(
    base: bigint,
    readMask: Uint8Array,
    writeMask: Uint8Array,
    readRip: 'exact' | 'block' = 'exact',
  ): void {
    const sizeBytes = Math.max(readMask.length, writeMask.length);
    const start = this.#watchable(base, sizeBytes);
    const masks = new Uint8Array(sizeBytes);
    for (let at = 0; at < sizeBytes; at++) {
      masks[at] = ((readMask[at] ?? 0) !== 0 ? 1 : 0) | ((writeMask[at] ?? 0) !== 0 ? 2 : 0);
    }
    this.#native.setWatch(start, masks, readRip === 'exact');
  }

  /** Stops watching [base, base + sizeBytes). */
  clear(base: bigint, sizeBytes: number): void {
    this.set(base, new Uint8Array(sizeBytes), new Uint8Array(sizeBytes));
  }

  /** Whether stopAt() stops anything: a libunicorn before 2.1 does not tell which instruction it was. */
  get canStop(): boolean {
    return !nativeBinding().version().startsWith('2.0.');
  }

  /**
   * Ends a run behind every instruction that reads or writes a byte of [base, base + sizeBytes); neither takes it back.
   *
   * @throws EngineError ENGINE_DISPOSED, WATCH_ON_CODE, WATCH_OUTSIDE_MEMORY.
   */
  stopAt(base: bigint, sizeBytes: number, on: { read: boolean; write: boolean }): void {
    const start = this.#watchable(base, sizeBytes);
    this.#native.setStopWatch(start, sizeBytes, (on.read ? 1 : 0) | (on.write ? 2 : 0));
  }

  /** The logged accesses since the last call, in order. */
  take(): LoggedAccess[] {
    this.#drain();
    return this.#held.splice(0);
  }

  /** Whether a watched write was logged since forget(), taken or not. */
  get hasLoggedWrite(): boolean {
    return this.#words[COUNTER.LOGGED_WRITES] !== 0;
  }

  /** Empties the log. */
  forget(): void {
    if (this.#held.length > 0) this.#held.length = 0;
    this.#words[COUNTER.ACCESSES] = 0;
    this.#words[COUNTER.LOGGED_WRITES] = 0;
  }

  /** For a snapshot: what nobody has taken. It stays to be taken. */
  held(): readonly LoggedAccess[] {
    this.#drain();
    return this.#held.length === 0 ? NONE : this.#held.slice();
  }

  /** Goes back to what held() gave. */
  hold(accesses: readonly LoggedAccess[]): void {
    if (this.#held.length > 0) this.#held.length = 0;
    this.#held.push(...accesses);
  }

  #drain(): void {
    if (this.#words[COUNTER.ACCESSES] === 0) return;
    const rows = this.#native.takeAccesses();
    for (let at = 0; at < rows.length; at += ROW) {
      const packed = toIndex(rows[at + 3]!);
      this.#held.push({
        kind: packed >> 8 === KIND_WRITE ? 'write' : 'read',
        address: rows[at]!,
        sizeBytes: packed & 0xff,
        value: rows[at + 1]!,
        rip: rows[at + 2]!,
      });
    }
  }

  /** @throws EngineError ENGINE_DISPOSED, WATCH_ON_CODE, WATCH_OUTSIDE_MEMORY. */
  #watchable(base: bigint, sizeBytes: number): number {
    this.#alive();
    if (base + BigInt(sizeBytes) > BigInt(this.#memoryBytes)) {
      throw new EngineError('WATCH_OUTSIDE_MEMORY', `watch at ${hex(base)} ends outside memory`);
    }
    const start = toIndex(base);
    const firstPage = start - (start % PAGE_SIZE);
    if (this.#code.overlaps(firstPage, start + sizeBytes - firstPage)) {
      throw new EngineError('WATCH_ON_CODE', `watch at ${hex(base)} is on executable pages`);
    }
    return start;
  }
}
