/**
 * Seeded pseudo-random numbers: xoshiro128** over a state that splitmix32 spreads from one 32-bit seed.
 *
 * Source: Blackman and Vigna, "Scrambled Linear Pseudorandom Number Generators".
 * Invariant: the sequence is a pure function of the seed; state() and fromState() continue it exactly.
 * Not modelled: cryptographic strength; RDRAND and RDSEED draw from here.
 */
import { HarnessBug } from '../../abi/errors.js';
import { joinHalves } from '../../abi/uint.js';

/** Four words of 32 bits, never all zero. */
export type RandomState = readonly [number, number, number, number];

/** One deterministic stream. */
export class Random {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  /** Two streams with equal seeds are equal. */
  constructor(seed: number) {
    const spread = splitmix32(seed);
    this.#a = spread() | 0;
    this.#b = spread() | 0;
    this.#c = spread() | 0;
    this.#d = spread() | 0;
  }

  /** Continues the stream that `state` was taken from. */
  static fromState(state: RandomState): Random {
    const random = new Random(0);
    random.restore(state);
    return random;
  }

  state(): RandomState {
    return [this.#a >>> 0, this.#b >>> 0, this.#c >>> 0, this.#d >>> 0];
  }

  /** Puts this stream where `state` was taken. */
  restore([a, b, c, d]: RandomState): void {
    this.#a = a | 0;
    this.#b = b | 0;
    this.#c = c | 0;
    this.#d = d | 0;
  }

  /** The next 32 bits. Words are kept signed: an engine of JavaScript holds those without an allocation. */
  nextU32(): number {
    const b = this.#b;
    const product = Math.imul(b, 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0;
    const c = this.#c ^ this.#a;
    const d = this.#d ^ b;
    this.#b = b ^ c;
    this.#a = this.#a ^ d;
    this.#c = c ^ (b << 9);
    this.#d = (d << 11) | (d >>> 21);
    return result;
  }

  /** The next 64 bits, the high half drawn first. */
  nextU64(): bigint {
    const high = this.nextU32();
    return joinHalves(high, this.nextU32());
  }

  /** An integer in [0, bound), without bias; `bound` is in [1, 2^32]. */
  below(bound: number): number {
    const whole = 0x1_0000_0000;
    if (!(bound >= 1 && bound <= whole)) throw new HarnessBug(`no integer lies below ${bound}`);
    const fair = whole - (whole % bound);
    let drawn = this.nextU32();
    while (drawn >= fair) drawn = this.nextU32();
    return drawn % bound;
  }
}

function splitmix32(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e37_79b9) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0_aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a_2d97);
    return (mixed ^ (mixed >>> 15)) >>> 0;
  };
}
