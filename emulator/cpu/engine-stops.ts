/**
 * Why a run of the engine ended, in the architecture's terms: what the native side notes of a stop, and what it cannot
 * know and the instruction at RIP tells.
 *
 * Source: SDM, "Canonical Addressing", "Page-Fault Exceptions" (a read-modify-write reports a write).
 * Invariant: RIP, RSP and the count are the architecture's afterwards: a branch that hardware refuses is taken back.
 * Not modelled: anything but what stopped the run; port.ts has the stops.
 */
import { isCanonical, low32, toIndex } from '../../abi/uint.js';
import { accessAt, nonCanonicalAccess, readsToWrite } from './faulting-access.js';
import { INFO, NATIVE_STOP } from './native-binding.js';
import type { EngineCounters, EngineStop, MemoryAccess, MemoryRefusal } from './port.js';
import { refusedBranch } from './refused-branch.js';
import type { RegisterFile } from './registers.js';
import type { SweptCode } from './swept-code.js';

/** The accesses by the numbers of native/engine.h. */
export const ACCESSES = ['fetch', 'read', 'write'] as const satisfies readonly MemoryAccess[];
const REFUSALS = [
  'unmapped',
  'protection',
  'non-canonical',
] as const satisfies readonly MemoryRefusal[];
const BREAKPOINT: EngineStop = { kind: 'breakpoint' };
/** A run that did all it was asked to. */
export const LIMIT: EngineStop = { kind: 'limit' };
const INVALID: EngineStop = { kind: 'invalid-instruction' };
const GENERAL_PROTECTION = 13;
const MAX_INSTRUCTION_BYTES = 15;

/** Where a stop is read from. */
export interface StopSources {
  readonly registers: RegisterFile;
  readonly counters: EngineCounters & { instructions: number };
  readonly memory: Uint8Array;
  readonly info: BigUint64Array;
  readonly code: SweptCode;
  /** The block entered last. */
  readonly lastBlock: () => bigint | undefined;
}

export class EngineStops {
  readonly #registers: RegisterFile;
  readonly #counters: StopSources['counters'];
  readonly #memory: Uint8Array;
  readonly #info: BigUint64Array;
  readonly #code: SweptCode;
  readonly #lastBlock: StopSources['lastBlock'];

  constructor({ registers, counters, memory, info, code, lastBlock }: StopSources) {
    this.#registers = registers;
    this.#counters = counters;
    this.#memory = memory;
    this.#info = info;
    this.#code = code;
    this.#lastBlock = lastBlock;
  }

  /** What stopped a run, from the number that it ended with. */
  read(stop: number): EngineStop {
    switch (stop) {
      case NATIVE_STOP.SITE:
        return this.#code.stopOf(low32(this.#info[INFO.SITE]!));
      case NATIVE_STOP.EXCEPTION:
        return this.#exception(toIndex(this.#info[INFO.VECTOR]!));
      case NATIVE_STOP.MEMORY:
        return this.#refusedAccess();
      case NATIVE_STOP.BREAKPOINT:
        return BREAKPOINT;
      case NATIVE_STOP.LIMIT:
        return LIMIT;
      case NATIVE_STOP.WATCH:
        return {
          kind: 'watch',
          access: ACCESSES[toIndex(this.#info[INFO.ACCESS]!)] === 'write' ? 'write' : 'read',
          address: this.#info[INFO.ADDRESS]!,
          sizeBytes: toIndex(this.#info[INFO.SIZE]!),
          rip: this.#info[INFO.ACCESS_RIP]!,
        };
      case NATIVE_STOP.CONTROL_PROTECTION:
        return { kind: 'control-protection', errorCode: toIndex(this.#info[INFO.ERROR_CODE]!) };
      case NATIVE_STOP.SHADOW_STACK:
        return {
          kind: 'shadow-stack',
          access: ACCESSES[toIndex(this.#info[INFO.ACCESS]!)] === 'write' ? 'write' : 'read',
          address: this.#info[INFO.ADDRESS]!,
        };
      default:
        return INVALID;
    }
  }

  #exception(vector: number): EngineStop {
    if (vector !== GENERAL_PROTECTION) return { kind: 'exception', vector };
    const rip = this.#registers.get('RIP');
    if (!isCanonical(rip)) {
      this.#takeBackBranch();
      return {
        kind: 'memory',
        access: 'fetch',
        reason: 'non-canonical',
        address: rip,
        sizeBytes: 0,
      };
    }
    const found = nonCanonicalAccess(this.#bytesAtRip(), this.#registers);
    return found === undefined
      ? { kind: 'exception', vector }
      : { kind: 'memory', reason: 'non-canonical', ...found };
  }

  #refusedAccess(): EngineStop {
    const address = this.#info[INFO.ADDRESS]!;
    const refused = ACCESSES[toIndex(this.#info[INFO.ACCESS]!)]!;
    if (refused === 'fetch' && !isCanonical(this.#registers.get('RIP'))) this.#takeBackBranch();
    const writesToo =
      refused === 'read' && readsToWrite(this.#bytesAtRip(), this.#registers, address);
    const access = writesToo ? 'write' : refused;
    const known = toIndex(this.#info[INFO.SIZE]!);
    const sizeBytes =
      access === 'fetch'
        ? 0
        : known !== 0
          ? known
          : (accessAt(this.#bytesAtRip(), this.#registers, address)?.sizeBytes ?? 0);
    return {
      kind: 'memory',
      access,
      reason: REFUSALS[toIndex(this.#info[INFO.REASON]!)]!,
      address,
      sizeBytes,
    };
  }

  /** Hardware refuses a branch to a non-canonical address; the engine has taken it. */
  #takeBackBranch(): void {
    const block = this.#lastBlock();
    if (block === undefined) return;
    const found = refusedBranch((address) => this.#bytesAt(address), block, this.#registers);
    if (found === undefined) return;
    this.#registers.set('RIP', found.address);
    this.#registers.set('RSP', found.rsp);
    this.#counters.instructions -= 1;
  }

  #bytesAtRip(): Uint8Array {
    return this.#bytesAt(this.#registers.get('RIP'));
  }

  #bytesAt(address: bigint): Uint8Array {
    if (address >= BigInt(this.#memory.length)) return new Uint8Array(0);
    const start = toIndex(address);
    return this.#memory.subarray(
      start,
      Math.min(start + MAX_INSTRUCTION_BYTES, this.#memory.length),
    );
  }
}
