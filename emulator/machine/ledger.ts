/**
 * The account of a run's invariants: how often each was really checked, and what broke.
 *
 * Source: DESIGN ("Invariants"): a run in which one was never exercised says so.
 * Invariant: a check is counted when its condition was evaluated, never when it was skipped.
 */
import { Log, type LogMark } from './log.js';
import { INVARIANT_IDS, type Finding, type InvariantId } from '../vmx/stop-reason.js';

/** At most this many findings are kept in full, and the first of each invariant; the rest are counted. */
const KEPT_FINDINGS = 100;

/** What became of one invariant in a run. */
export interface InvariantResult {
  readonly id: InvariantId;
  readonly held: boolean;
  /** How many times its condition was evaluated. */
  readonly checked: number;
  /** The first finding, or why it was not exercised; empty when all is well. */
  readonly detail: string;
}

/** The account as plain data. */
export interface LedgerState {
  readonly checked: Float64Array;
  readonly broken: Float64Array;
  readonly findings: LogMark<Finding>;
}

const INDEX = Object.fromEntries(INVARIANT_IDS.map((id, index) => [id, index])) as Record<
  InvariantId,
  number
>;

/** Where the account keeps an invariant: known beforehand, because every exit counts a dozen evaluations. */
export type LedgerRow = number & { readonly ledgerRow: true };

/** The row of an invariant. */
export function rowOf(id: InvariantId): LedgerRow {
  return INDEX[id] as LedgerRow;
}

export class Ledger {
  readonly #checked = new Float64Array(INVARIANT_IDS.length);
  readonly #broken = new Float64Array(INVARIANT_IDS.length);
  readonly #findings = new Log<Finding>();

  /** Hears of every finding as it is made; for a debugger. */
  onFinding: (() => void) | null = null;

  /** Counts one evaluation. */
  count(row: LedgerRow): void {
    this.#checked[row]!++;
  }

  /** Records a broken invariant. */
  fail(id: InvariantId, address: bigint, message: string, details: Finding['details'] = {}): void {
    this.onFinding?.();
    const isFirst = this.#broken[INDEX[id]]!++ === 0;
    if (isFirst || this.#findings.length < KEPT_FINDINGS) {
      this.#findings.push({ invariant: id, message, address, details });
    }
  }

  /** Adds another account to this one. */
  add(other: Ledger): void {
    for (let index = 0; index < INVARIANT_IDS.length; index++) {
      this.#checked[index]! += other.#checked[index]!;
      this.#broken[index]! += other.#broken[index]!;
    }
    const room = Math.max(0, KEPT_FINDINGS - this.#findings.length);
    for (const finding of other.findings.slice(0, room)) this.#findings.push(finding);
  }

  /** Forgets everything. */
  clear(): void {
    this.#checked.fill(0);
    this.#broken.fill(0);
    this.#findings.restore(new Log<Finding>().mark());
  }

  /** Counts one evaluation and records it when it does not hold; `message` is made only then. */
  expect(id: InvariantId, holds: boolean, address: bigint, message: () => string): void {
    this.#checked[INDEX[id]]!++;
    if (!holds) this.fail(id, address, message());
  }

  get findings(): readonly Finding[] {
    return this.#findings.items;
  }

  /** Whether nothing broke so far. */
  get clean(): boolean {
    return this.#findings.length === 0;
  }

  /** Evaluations so far, over all invariants. */
  get totalChecked(): number {
    return this.#checked.reduce((sum, n) => sum + n, 0);
  }

  results(): readonly InvariantResult[] {
    return INVARIANT_IDS.map((id, index) => {
      const broken = this.#broken[index]!;
      const first = this.findings.find((f) => f.invariant === id);
      const more = broken > 1 ? ` (and ${broken - 1} more)` : '';
      const checked = this.#checked[index]!;
      const detail =
        first === undefined
          ? checked === 0
            ? 'not exercised by this run'
            : ''
          : first.message + more;
      return { id, held: broken === 0, checked, detail };
    });
  }

  state(): LedgerState {
    return {
      checked: this.#checked.slice(),
      broken: this.#broken.slice(),
      findings: this.#findings.mark(),
    };
  }

  restore(state: LedgerState): void {
    this.#checked.set(state.checked);
    this.#broken.set(state.broken);
    this.#findings.restore(state.findings);
  }
}
