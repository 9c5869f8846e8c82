/**
 * What the models see of a CPU engine: runs the payload's instructions from a register file until something stops it.
 *
 * Source: DESIGN ("Traps are sites, not callbacks", "Isolation by mapping", "Exact points").
 * Invariant: at every stop RIP and RFLAGS are exact, the site's own instruction has not been executed, and
 * `instructions` counts exactly the instructions executed so far.
 */
import type { Instruction } from './decode.js';

/** Why Engine.run() came back. */
export type EngineStop =
  /** RIP is at a trap site that the model must execute; `site` tells which. */
  | { readonly kind: 'site'; readonly site: TrapSite }
  /** An exception the engine raised; RIP is the faulting instruction's (traps: past it for INT3 and INT n). */
  | { readonly kind: 'exception'; readonly vector: number }
  /** An access that this engine's map does not allow; `address` is linear. */
  | {
      readonly kind: 'memory';
      readonly access: 'fetch' | 'read' | 'write';
      readonly reason: 'unmapped' | 'protection' | 'non-canonical';
      readonly address: bigint;
      readonly sizeBytes: number;
    }
  /** An instruction that neither the sweep nor the engine knows. */
  | { readonly kind: 'invalid-instruction' }
  /** RIP is at an address given to setBreakpoint(). */
  | { readonly kind: 'breakpoint' }
  /** The limit given to run() was reached, exactly. */
  | { readonly kind: 'limit' };

/** An instruction found by the sweep that the model executes, or that the engine answers in line. */
export interface TrapSite {
  readonly address: bigint;
  readonly instruction: Instruction;
}

/** One linear range of an address space; `physical` equals `linear` for everything a Caretaker maps. */
export interface Mapping {
  readonly linear: bigint;
  readonly physical: bigint;
  readonly sizeBytes: number;
  readonly writable: boolean;
  readonly executable: boolean;
}

/** A store that the payload made into a watched byte. */
export interface LoggedAccess {
  readonly kind: 'read' | 'write';
  readonly address: bigint;
  readonly sizeBytes: number;
  readonly value: bigint;
  readonly rip: bigint;
}

/** Counts since the engine was made; exact at every stop. Plain numbers: they stay below 2^53. */
export interface EngineCounters {
  instructions: number;
  blocks: number;
  stores: number;
  inlineVmreads: number;
  inlineVmwrites: number;
  inlineRdtscs: number;
}
