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
  /** An exception the engine raised; RIP is the faulting instruction's. */
  | { readonly kind: 'exception'; readonly vector: number }
  /**
   * An access that this engine's map does not allow; `address` is linear. `sizeBytes` is the operand's as far as the
   * instruction tells, else 0.
   */
  | {
      readonly kind: 'memory';
      readonly access: MemoryAccess;
      readonly reason: MemoryRefusal;
      readonly address: bigint;
      readonly sizeBytes: number;
    }
  /** An instruction that neither the sweep nor the engine knows, or a jump into the middle of one. */
  | { readonly kind: 'invalid-instruction' }
  /** RIP is at an address given to setBreakpoint(). */
  | { readonly kind: 'breakpoint' }
  /** RIP is behind an instruction that made an access given to setStopWatch(). */
  | {
      readonly kind: 'watch';
      readonly access: 'read' | 'write';
      readonly address: bigint;
      readonly sizeBytes: number;
      /** Of that instruction. */
      readonly rip: bigint;
    }
  /** RIP is at a near RET that the shadow stack contradicts, or at a target of an indirect branch without ENDBR64. */
  | { readonly kind: 'control-protection'; readonly errorCode: number }
  /** RIP is at a near CALL or RET whose shadow stack, at a linear address, is not there. */
  | {
      readonly kind: 'shadow-stack';
      readonly access: 'read' | 'write';
      readonly address: bigint;
    }
  /** The limit given to run() was reached, exactly. */
  | { readonly kind: 'limit' };

/** What an access does. */
export type MemoryAccess = 'fetch' | 'read' | 'write';

/** Why an access is refused. */
export type MemoryRefusal = 'unmapped' | 'protection' | 'non-canonical';

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
  /** For shadow stacks alone to write: CALL while they are on. */
  readonly shadowStack?: boolean;
}

/** What of control-flow enforcement is on for the supervisor. */
export interface CetState {
  readonly shadowStacks: boolean;
  /** Indirect branch tracking, and whether the no-track prefix counts. */
  readonly endbranch: boolean;
  readonly noTrack: boolean;
  /** An indirect branch waits for its ENDBR64. */
  readonly isWaiting: boolean;
}

/** A watched access that the payload made; `value` is what was read or stored. */
export interface LoggedAccess {
  readonly kind: 'read' | 'write';
  readonly address: bigint;
  readonly sizeBytes: number;
  readonly value: bigint;
  readonly rip: bigint;
}

/**
 * Counts since the engine was made; exact at every stop. Plain numbers: they stay below 2^53. A model that executes a
 * site adds its instruction itself (Engine.retire()).
 */
export interface EngineCounters {
  instructions: number;
  /** Basic blocks of the program entered; a site does not split one. */
  blocks: number;
  /** Instructions executed that write memory, their stack included; those of models are not counted. */
  stores: number;
  inlineVmreads: number;
  inlineVmwrites: number;
  inlineRdtscs: number;
  /** Near returns that a shadow stack allowed. */
  heldReturns: number;
}

/**
 * A VMCS that the binding reads and writes in line: the arrays are the model's own, indexed by dense slot.
 * `written` lists the slots whose WRITTEN flag was set by the binding since the model last emptied it.
 */
export interface InlineVmcs {
  readonly values: BigUint64Array;
  readonly flags: Uint8Array;
  readonly written: Uint16Array;
  readonly writtenCount: Uint32Array;
}

/** Flags of a slot of an InlineVmcs. */
export const VMCS_SLOT_FLAG = { READABLE: 1, WRITABLE: 2, POISON: 4, WRITTEN: 8 } as const;

/** An entry of the slot table for an encoding that has no slot. */
export const NO_SLOT = 0xffff;
