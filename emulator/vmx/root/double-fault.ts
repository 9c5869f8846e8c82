/**
 * What a second exception during the delivery of a first event becomes: itself, #DF, or shutdown.
 *
 * Source: SDM, "Interrupt 8—Double Fault Exception (#DF)", tables of interrupt classes and of conditions.
 */
import { VECTOR } from '../../../abi/interruption.js';

/** The classes of the SDM's table; an interrupt is benign. */
export type EventClass = 'benign' | 'contributory' | 'page-fault' | 'double-fault';

const CONTRIBUTORY: ReadonlySet<number> = new Set([
  VECTOR.DE,
  VECTOR.TS,
  VECTOR.NP,
  VECTOR.SS,
  VECTOR.GP,
  VECTOR.CP,
]);

/** The class of an exception vector. */
export function exceptionClass(vector: number): EventClass {
  if (vector === VECTOR.DF) return 'double-fault';
  if (vector === VECTOR.PF || vector === VECTOR.VE) return 'page-fault';
  return CONTRIBUTORY.has(vector) ? 'contributory' : 'benign';
}

/** How two exceptions combine: the second alone, #DF instead of it, or shutdown. */
export function combine(
  first: EventClass,
  second: EventClass,
): 'second' | 'double-fault' | 'shutdown' {
  if (second === 'benign') return 'second';
  switch (first) {
    case 'benign':
      return 'second';
    case 'contributory':
      return second === 'page-fault' ? 'second' : 'double-fault';
    case 'page-fault':
      return 'double-fault';
    case 'double-fault':
      return 'shutdown';
  }
}
