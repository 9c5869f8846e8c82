/**
 * The MSRs of a pCPU as a table of values, with the rules of WRMSR and a count of changes.
 *
 * Source: SDM, "WRMSR—Write to Model Specific Register", "RDMSR—Read From Model Specific Register"; msr-table.ts.
 * Invariant: changedSince() is false exactly when no value has been altered since the mark; a write of the value that
 * is there already alters nothing.
 * Not modelled: side effects of an MSR; those that have one live in msrs.ts or local-apic.ts.
 */
import { isCanonical } from '../../../abi/uint.js';
import type { MsrPort } from '../ports.js';
import type { MsrDefinition } from './msr-table.js';

/** A moment in the life of an MSR file. */
export type MsrMark = number;

/** All values at one moment, in the order of the table, and what mark() gave then. */
export interface MsrFileState {
  readonly values: BigUint64Array;
  readonly mark: MsrMark;
}

/** An MSR that does not hold the value it had. */
export interface MsrDifference {
  readonly index: number;
  readonly before: bigint;
  readonly now: bigint;
}

export class MsrFile implements MsrPort {
  readonly #definitions: readonly MsrDefinition[];
  readonly #slots: ReadonlyMap<number, number>;
  readonly #values: BigUint64Array;
  #changes: MsrMark = 0;

  /** A later definition of an index replaces an earlier one. */
  constructor(definitions: readonly MsrDefinition[]) {
    this.#definitions = [...new Map(definitions.map((row) => [row.index, row])).values()];
    this.#slots = new Map(this.#definitions.map((row, slot) => [row.index, slot]));
    this.#values = BigUint64Array.from(this.#definitions, (row) => row.reset);
  }

  read(index: number): bigint | undefined {
    const slot = this.#slots.get(index);
    if (slot === undefined || this.#definitions[slot]!.access === 'write-only') return undefined;
    return this.#values[slot];
  }

  write(index: number, value: bigint): boolean {
    const slot = this.#slots.get(index);
    if (slot === undefined) return false;
    const definition = this.#definitions[slot]!;
    if (definition.access === 'read-only' || (value & ~definition.writable) !== 0n) return false;
    if ((definition.canonical && !isCanonical(value)) || !definition.isValid(value)) return false;
    if (definition.access === 'read-write') this.#store(slot, value);
    return true;
  }

  /** Sets a value as the hardware itself does, past the rules of WRMSR; false when there is no such MSR. */
  load(index: number, value: bigint): boolean {
    const slot = this.#slots.get(index);
    if (slot === undefined) return false;
    this.#store(slot, value);
    return true;
  }

  /** Puts every MSR to its value after reset. */
  reset(): void {
    this.#definitions.forEach((row, slot) => this.#store(slot, row.reset));
  }

  /** This moment, for changedSince(). */
  mark(): MsrMark {
    return this.#changes;
  }

  /** Whether any value was altered since `mark`, even when it was put back. */
  changedSince(mark: MsrMark): boolean {
    return this.#changes !== mark;
  }

  /** The MSRs that differ from `baseline`, a state of this file. */
  differencesFrom(baseline: MsrFileState): readonly MsrDifference[] {
    return this.#definitions.flatMap(({ index }, slot) => {
      const before = baseline.values[slot]!;
      const now = this.#values[slot]!;
      return before === now ? [] : [{ index, before, now }];
    });
  }

  state(): MsrFileState {
    return { values: this.#values.slice(), mark: this.#changes };
  }

  /** Goes back to a state; marks that are older than it hold good again. */
  restore(state: MsrFileState): void {
    this.#values.set(state.values);
    this.#changes = state.mark;
  }

  /** A file with the given rows and the values of `state`. */
  static fromState(definitions: readonly MsrDefinition[], state: MsrFileState): MsrFile {
    const file = new MsrFile(definitions);
    file.restore(state);
    return file;
  }

  #store(slot: number, value: bigint): void {
    if (this.#values[slot] === value) return;
    this.#values[slot] = value;
    this.#changes++;
  }
}
