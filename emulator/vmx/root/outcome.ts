/**
 * What executing one instruction or delivering one event can come to, as values: never thrown.
 *
 * Source: SDM, "Interrupt and Exception Handling"; STYLE ("payload or guest did something").
 * Invariant: a fault leaves the architectural state as it was before the instruction, CR2 apart, which raise() sets.
 */
import { VECTOR } from '../../../abi/interruption.js';
import type { StopReason } from '../stop-reason.js';

/** An exception that the instruction raises. */
export interface Fault {
  readonly kind: 'fault';
  readonly vector: number;
  /** Null for an exception that pushes none. */
  readonly errorCode: number | null;
  /** The linear address that #PF puts into CR2. */
  readonly address: bigint | null;
}

/** The run cannot go on. */
export interface Stop {
  readonly kind: 'stop';
  readonly reason: StopReason;
}

/** An access or an instruction that was not carried out. */
export type Failure = Fault | Stop;

/** What a model of an instruction returns. */
export type Outcome =
  /** Done; RIP goes to the next instruction. */
  | { readonly kind: 'next' }
  /** Done; the model has set RIP. */
  | { readonly kind: 'jumped' }
  /** Done by the engine itself, which has moved RIP and counted the instruction. */
  | { readonly kind: 'native' }
  | Failure;

/** The common outcome, shared so that it costs nothing. */
export const NEXT: Outcome = { kind: 'next' };
/** The outcome of a control transfer. */
export const JUMPED: Outcome = { kind: 'jumped' };
/** The outcome of an instruction that the engine has stepped over. */
export const NATIVE: Outcome = { kind: 'native' };

/** An exception without a faulting address. */
export function fault(vector: number, errorCode: number | null = null): Fault {
  return { kind: 'fault', vector, errorCode, address: null };
}

/** #UD. */
export const UNDEFINED_OPCODE = fault(VECTOR.UD);
/** #GP(0). */
export const GENERAL_PROTECTION = fault(VECTOR.GP, 0);
/** #NM. */
export const DEVICE_NOT_AVAILABLE = fault(VECTOR.NM);

/** #PF at a linear address. */
export function pageFault(errorCode: number, address: bigint): Fault {
  return { kind: 'fault', vector: VECTOR.PF, errorCode, address };
}

/** A selector error code: the selector without its RPL, with EXT in bit 0. */
export function selectorError(selector: number, isExternal = false): number {
  return (selector & 0xfffc) | (isExternal ? 1 : 0);
}

/** Stops at an instruction, or a use of one, that nothing models. */
export function unmodelled(name: string, address: bigint, detail: string): Stop {
  return { kind: 'stop', reason: { kind: 'unmodelled', name, address, detail } };
}
