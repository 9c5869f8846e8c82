/**
 * A case of a comparison as every part of it ends: its title, and the values in which the two machines differ.
 *
 * Invariant: no differences means that every value of the case is equal.
 */

/** One value that differs. */
export interface CaseDifference {
  readonly what: string;
  readonly model: string;
  readonly second: string;
  /** What explains it. */
  readonly known: { readonly id: string } | null;
}

/** A case on both machines. */
export interface CaseResult {
  readonly title: string;
  readonly differences: readonly CaseDifference[];
}
