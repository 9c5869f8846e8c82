/**
 * The native half of the engine: finds the built addon and gives it types.
 *
 * Source: native/binding.cc.
 * Invariant: the one importer of the addon; CARETAKER_ENGINE chooses another build of it.
 */
import { createRequire } from 'node:module';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { EngineError } from './engine-error.js';

/** Numbers that run() returns; native/engine.h: Stop. */
export const NATIVE_STOP = {
  SITE: 0,
  EXCEPTION: 1,
  MEMORY: 2,
  INVALID: 3,
  BREAKPOINT: 4,
  LIMIT: 5,
  WRITTEN_CODE: 6,
  WATCH: 7,
  CONTROL_PROTECTION: 8,
  SHADOW_STACK: 9,
} as const;

/** Words of the stop information; native/engine.h: slot::Info. */
export const INFO = {
  ADDRESS: 0,
  ACCESS: 1,
  SIZE: 2,
  VECTOR: 3,
  REASON: 4,
  SITE: 5,
  ERROR_CODE: 6,
  /** Of the instruction that made a watched access. */
  ACCESS_RIP: 7,
} as const;
export const INFO_WORDS = 8;

/** Words of the counters; native/engine.h: slot::Counter. */
export const COUNTER = {
  INSTRUCTIONS: 0,
  BLOCKS: 1,
  STORES: 2,
  VMREADS: 3,
  VMWRITES: 4,
  RDTSCS: 5,
  TRACE_HEAD: 6,
  TSC_BASE: 7,
  /** Watched accesses that takeAccesses() would give. */
  ACCESSES: 8,
  /** Writes among the accesses logged since all were forgotten. */
  LOGGED_WRITES: 9,
  /** What of control-flow enforcement is on: CET_ON, added. */
  CET: 10,
  /** 1 while an indirect branch waits for its ENDBR64. */
  TRACKER: 11,
  /** Near returns that the shadow stack allowed. */
  HELD_RETURNS: 12,
} as const;
export const COUNTER_WORDS = 13;

/** Bits of COUNTER.CET; native/engine.h: Cet. */
export const CET_ON = { SHADOW_STACKS: 1, ENDBRANCH: 2, NO_TRACK: 4 } as const;

/** Sizes of what a snapshot takes of the native side; native/engine.h: kFlowWords, kExtendedBytes. */
export const FLOW_WORDS = 8;
export const EXTENDED_BYTES = 16 * 16 + 12 * 16;

/** Bytes of the coverage map and entries of the trace ring. */
export const COVERAGE_BYTES = 65536;
export const TRACE_ENTRIES = 1024;

export interface NativeMemory {
  readonly buffer: ArrayBuffer;
}

export interface NativeEngine {
  run(limit: number): number;
  stepNative(): number;
  createSpace(ranges: Float64Array): number;
  activateSpace(id: number): void;
  disposeSpace(id: number): void;
  defineCode(base: number, flags: Uint8Array, sites: Int32Array): void;
  removeCode(base: number, sizeBytes: number): void;
  setBreakpoint(address: number, on: boolean): void;
  bindVmcs(
    values: BigUint64Array,
    flags: Uint8Array,
    written: Uint16Array,
    count: Uint32Array,
  ): void;
  unbindVmcs(): void;
  setSlotTable(table: Uint16Array): void;
  setWatch(base: number, masks: Uint8Array, exactReads: boolean): void;
  setStopWatch(base: number, sizeBytes: number, bits: number): void;
  takeAccesses(): BigUint64Array;
  takeDirty(pages: Uint8Array): void;
  readVectors(bytes: Uint8Array): void;
  writeVectors(bytes: Uint8Array): void;
  saveFlow(words: Float64Array): void;
  restoreFlow(words: Float64Array): void;
  /** Whether anything has touched vector or x87 registers since the engine was made. */
  isExtendedUsed(): boolean;
  readExtended(bytes: Uint8Array): void;
  writeExtended(bytes: Uint8Array): void;
  dispose(): void;
}

export interface NativeBinding {
  readonly NativeMemory: new (sizeBytes: number) => NativeMemory;
  readonly NativeEngine: new (
    memory: NativeMemory,
    registers: ArrayBuffer,
    counters: ArrayBuffer,
    info: ArrayBuffer,
    coverage: ArrayBuffer,
    edges: ArrayBuffer,
    trace: ArrayBuffer,
  ) => NativeEngine;
  version(): string;
}

let loaded: NativeBinding | undefined;

/** The addon, loaded on first use. @throws EngineError ENGINE_NOT_BUILT. */
export function nativeBinding(): NativeBinding {
  loaded ??= load();
  return loaded;
}

function load(): NativeBinding {
  const path =
    process.env['CARETAKER_ENGINE'] ??
    join(packageFolder(), 'build', 'Release', 'caretaker_engine.node');
  try {
    return createRequire(import.meta.url)(path) as NativeBinding;
  } catch (cause) {
    throw new EngineError(
      'ENGINE_NOT_BUILT',
      `the engine binding ${path} does not load; run make setup`,
      { path },
      { cause },
    );
  }
}

/** The folder of package.json above this file, in the sources and in dist/ alike. */
function packageFolder(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json')) && folder !== dirname(folder))
    folder = dirname(folder);
  return folder;
}
