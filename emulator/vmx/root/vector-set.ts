/**
 * A 256-bit register of a local APIC, one bit a vector: ISR, TMR or IRR.
 *
 * Source: SDM, "Interrupt Acceptance for Fixed Interrupts".
 * Invariant: highest() is -1 exactly when no bit is set, and costs nothing then.
 */
export class VectorSet {
  readonly #words = new Uint32Array(8);
  #count = 0;

  has(vector: number): boolean {
    return (this.#words[vector >>> 5]! & (1 << (vector & 31))) !== 0;
  }

  add(vector: number): void {
    if (this.has(vector)) return;
    this.#words[vector >>> 5]! |= 1 << (vector & 31);
    this.#count++;
  }

  delete(vector: number): void {
    if (!this.has(vector)) return;
    this.#words[vector >>> 5]! &= ~(1 << (vector & 31));
    this.#count--;
  }

  clear(): void {
    this.#words.fill(0);
    this.#count = 0;
  }

  /** The highest vector in the set, or -1. */
  highest(): number {
    if (this.#count === 0) return -1;
    for (let word = 7; word >= 0; word--) {
      const bits = this.#words[word]!;
      if (bits !== 0) return word * 32 + 31 - Math.clz32(bits);
    }
    return -1;
  }

  /** 32 bits as the APIC shows them: word 0 has vectors 0 to 31. */
  word(index: number): number {
    return this.#words[index]!;
  }

  /** The eight words, the lowest vectors first. */
  state(): readonly number[] {
    return [...this.#words];
  }

  restore(words: readonly number[]): void {
    this.#words.set(words);
    this.#count = 0;
    for (let rest of this.#words) for (; rest !== 0; rest &= rest - 1) this.#count++;
  }
}
