/**
 * The memory that all engines of a machine share, as Unicorn maps it and as a typed array sees it.
 *
 * Source: DESIGN ("One physical memory, one engine per pCPU").
 * Invariant: one copy: a store of an engine is in the buffer at once.
 * Not modelled: who owns what; memory/physical-memory.ts does.
 */
import { nativeBinding, type NativeMemory } from './native-binding.js';

/** Physical memory that engines can map: page aligned, committed as it is used. */
export class EngineMemory {
  /** What PhysicalMemory is made over. */
  readonly buffer: ArrayBuffer;
  readonly native: NativeMemory;

  /** `sizeBytes` is a page multiple below 3.75 GiB. */
  constructor(sizeBytes: number) {
    this.native = new (nativeBinding().NativeMemory)(sizeBytes);
    this.buffer = this.native.buffer;
  }
}
