/**
 * The local vector table: seven registers that say what a local interrupt source sends.
 *
 * Source: SDM, "Local Vector Table"; abi/x2apic.ts for indices and bits.
 * Invariant: while the local APIC is software-disabled every entry is masked and cannot be unmasked.
 * Not modelled: remote IRR and polarity have no source behind them; nothing drives LINT0 and LINT1 by itself.
 */
import { LVT, X2APIC } from '../../../abi/x2apic.js';

interface LvtEntry {
  readonly index: number;
  /** Bits that are not reserved. */
  readonly defined: number;
}

// prettier-ignore
const ENTRIES: readonly LvtEntry[] = [
  { index: X2APIC.LVT_CMCI,    defined: 0x0001_17ff },
  { index: X2APIC.LVT_TIMER,   defined: 0x0007_10ff },
  { index: X2APIC.LVT_THERMAL, defined: 0x0001_17ff },
  { index: X2APIC.LVT_PMI,     defined: 0x0001_17ff },
  { index: X2APIC.LVT_LINT0,   defined: 0x0001_f7ff },
  { index: X2APIC.LVT_LINT1,   defined: 0x0001_f7ff },
  { index: X2APIC.LVT_ERROR,   defined: 0x0001_10ff },
];

const READ_ONLY = LVT.PENDING | LVT.REMOTE_IRR;
const TIMER_MODE_RESERVED = LVT.TIMER_MODE_MASK;

export class LocalVectorTable {
  readonly #entries = new Map<number, number>(ENTRIES.map(({ index }) => [index, LVT.MASKED]));

  /** The register at an x2APIC index, undefined when it is no LVT register. */
  read(index: number): number | undefined {
    return this.#entries.get(index);
  }

  /** False when the value has a reserved bit or a reserved timer mode: WRMSR raises #GP. */
  write(index: number, value: number, isApicEnabled: boolean): boolean {
    const entry = ENTRIES.find((row) => row.index === index)!;
    if ((value & ~entry.defined) !== 0) return false;
    if (index === X2APIC.LVT_TIMER && (value & LVT.TIMER_MODE_MASK) === TIMER_MODE_RESERVED) {
      return false;
    }
    this.#entries.set(index, (value & ~READ_ONLY) | (isApicEnabled ? 0 : LVT.MASKED));
    return true;
  }

  maskAll(): void {
    for (const [index, value] of this.#entries) this.#entries.set(index, value | LVT.MASKED);
  }

  mask(index: number): void {
    this.#entries.set(index, this.#entries.get(index)! | LVT.MASKED);
  }

  /** Every register after INIT or reset. */
  reset(): void {
    for (const index of this.#entries.keys()) this.#entries.set(index, LVT.MASKED);
  }

  state(): Readonly<Record<number, number>> {
    return Object.fromEntries(this.#entries);
  }

  restore(state: Readonly<Record<number, number>>): void {
    for (const { index } of ENTRIES) this.#entries.set(index, state[index]!);
  }
}
