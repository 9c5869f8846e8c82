/**
 * The memory that actors share, with the stores that a core has executed and that nobody else can see yet.
 *
 * Source: Sewell, Sarkar, Owens, Nardelli, Myreen, "x86-TSO": a FIFO store buffer for each processor; a load is answered by
 * the newest buffered store to its bytes, else by memory; locked instructions, fences and serialising instructions wait for
 * the buffer to be empty.
 * Invariant: between two steps memory is what every actor sees; while an actor runs it is what that actor sees, its own
 * buffered stores on top.
 */
import type { PhysicalMemory } from '../../memory/physical-memory.js';
import type { SharedRange } from './shared-pages.js';
import { bufferEntry, bytes, type Access, type Footprint } from './footprint.js';

interface BufferedStore {
  readonly ordinal: number;
  readonly at: number;
  readonly value: Uint8Array;
}

export class SharedMemory {
  readonly ranges: readonly SharedRange[];
  readonly #memory: PhysicalMemory;
  /** The ranges as everybody sees them. */
  readonly #seen: readonly Uint8Array[];
  readonly #buffers: readonly BufferedStore[][];
  readonly #stores: number[];

  constructor(memory: PhysicalMemory, ranges: readonly SharedRange[], actors: number) {
    this.#memory = memory;
    this.ranges = ranges;
    this.#seen = ranges.map(({ sizeBytes }) => new Uint8Array(sizeBytes));
    this.#buffers = Array.from({ length: actors }, () => []);
    this.#stores = this.#buffers.map(() => 0);
  }

  /** Nothing is buffered, and memory is what everybody sees. */
  reset(): void {
    for (const buffer of this.#buffers) buffer.length = 0;
    this.#stores.fill(0);
    this.publish();
  }

  /** Memory as it is now is what everybody sees. */
  publish(): void {
    this.ranges.forEach(({ from, sizeBytes }, index) => {
      this.#seen[index]!.set(this.#memory.bytes.subarray(from, from + sizeBytes));
    });
  }

  hasBuffered(actor: number): boolean {
    return this.#buffers[actor]!.length > 0;
  }

  /** Memory becomes what an actor sees. */
  show(actor: number): void {
    for (const { at, value } of this.#buffers[actor]!) this.#memory.write(BigInt(at), value);
  }

  /** Memory becomes what everybody sees again. */
  hide(): void {
    this.ranges.forEach(({ from }, index) => {
      this.#memory.write(BigInt(from), this.#seen[index]!);
    });
  }

  /** The store that an actor has just made, and that memory shows: from now on in its buffer; what that touches. */
  buffer(actor: number, at: number, sizeBytes: number): Access {
    const ordinal = this.#stores[actor]!++;
    this.#buffers[actor]!.push({
      ordinal,
      at,
      value: this.#memory.bytes.slice(at, at + sizeBytes),
    });
    return bufferEntry(actor, ordinal);
  }

  /** The oldest store of an actor reaches memory; what that touches. */
  drain(actor: number): Footprint {
    const { ordinal, at, value } = this.#buffers[actor]!.shift()!;
    this.#memory.write(BigInt(at), value);
    this.publish();
    return [bytes(at, value.length, true), bufferEntry(actor, ordinal)];
  }

  /** All stores of an actor have reached memory, which shows them. */
  drained(actor: number): void {
    this.#buffers[actor]!.length = 0;
    this.publish();
  }
}
