/** The machine's physical memory as the hot paths read it: 32-bit words and byte offsets as plain numbers. */
import { toIndex } from '../../abi/uint.js';
import type { PhysicalMemory } from '../memory/physical-memory.js';

export class MachineMemory {
  readonly bytes: PhysicalMemory;
  /** The same bytes; the word at offset `n` is `words[n >>> 2]`. */
  readonly words: Uint32Array;

  constructor(bytes: PhysicalMemory) {
    this.bytes = bytes;
    this.words = new Uint32Array(bytes.buffer);
  }

  /** An address as a byte offset. */
  offset(hpa: bigint): number {
    return toIndex(hpa);
  }
}
