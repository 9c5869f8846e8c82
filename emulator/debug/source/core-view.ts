/**
 * What the views and expressions look at: one core that has stopped, as questions with plain answers.
 *
 * Invariant: asking changes nothing; what is not there is null, never a guess.
 */
import type { FieldName } from '../../../abi/vmcs-fields.js';
import type { RegisterName } from '../../cpu/registers.js';
import type { SourceMap } from './source-map.js';

/** One core at a stop. */
export interface CoreView {
  readonly id: number;
  register(name: RegisterName): bigint;
  /** Bytes at a linear address as the core reaches them; null when one of them is not mapped. */
  read(address: bigint, sizeBytes: number): Uint8Array | null;
  /** A field of the current VMCS; null without one, or where its value is undefined. */
  vmcsField(name: FieldName): bigint | null;
  /** An MSR of the core; null when it has no such MSR. */
  msr(index: number): bigint | null;
  /** The payload's instance that this core runs; null before there is one. */
  readonly source: SourceMap | null;
  /** The instance that an address lies in, also another core's. */
  sourceOf(address: bigint): SourceMap | null;
  /** The control block of the vCPU on this core; null before there is one. */
  readonly ccbAddress: bigint | null;
  /** Names for the values of the session that expressions may use: `$exit`, `$instruction`, `$core`. */
  readonly sessionValues: ReadonlyMap<string, bigint>;
}

/** The source map of an address of one of the instances `sources`. */
export function sourceAmong(sources: readonly SourceMap[], address: bigint): SourceMap | null {
  return sources.find((source) => source.has(address)) ?? null;
}
