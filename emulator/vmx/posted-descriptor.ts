/**
 * A posted-interrupt descriptor in memory, as who posts and who takes see it.
 *
 * Source: SDM, "Posted-Interrupt Processing"; VT-d specification, "Interrupt Posting Hardware Processing".
 * Invariant: each method is one locked read-modify-write, and nothing comes between it and another of the same word.
 */
import { PI_CONTROL, PI_DESC, PI_NDST_SHIFT, PI_NV_SHIFT } from '../../abi/posted-interrupt.js';
import { StructView } from '../../abi/layout.js';
import { high32, low32, u64 } from '../../abi/uint.js';
import type { PhysicalBytes } from '../memory/physical-memory.js';

const WORDS = 4;

/** Where a notification goes. */
export interface Notification {
  readonly apicId: number;
  readonly vector: number;
}

export class PostedDescriptor {
  readonly #view: StructView;

  constructor(bytes: PhysicalBytes, hpa: bigint) {
    this.#view = new StructView(PI_DESC, bytes, hpa);
  }

  /** Whether any request is posted. */
  get hasRequests(): boolean {
    return Array.from({ length: WORDS }, (_, word) => this.#view.get(`pir[${word}]`)).some(
      (bits) => bits !== 0n,
    );
  }

  isRequested(vector: number): boolean {
    return ((this.#view.get(`pir[${vector >> 6}]`) >> BigInt(vector & 63)) & 1n) !== 0n;
  }

  get isOutstanding(): boolean {
    return (this.#control & PI_CONTROL.ON) !== 0n;
  }

  /** KVM prepares it before anybody posts, or moves it with the vCPU. */
  aim({ apicId, vector }: Notification, isSuppressed: boolean): void {
    const kept = this.#control & PI_CONTROL.ON;
    const own = (u64(vector) << PI_NV_SHIFT) | (u64(apicId) << PI_NDST_SHIFT);
    this.#view.set('control', kept | own | (isSuppressed ? PI_CONTROL.SN : 0n));
  }

  /** Sets a vector's request. */
  request(vector: number): void {
    const word = `pir[${vector >> 6}]`;
    this.#view.set(word, this.#view.get(word) | (1n << BigInt(vector & 63)));
  }

  /** Sets ON: the notification to send, or null when one is outstanding, or suppressed and not urgent. */
  notify(isUrgent: boolean): Notification | null {
    const control = this.#control;
    if ((control & PI_CONTROL.ON) !== 0n) return null;
    if ((control & PI_CONTROL.SN) !== 0n && !isUrgent) return null;
    this.#view.set('control', control | PI_CONTROL.ON);
    return { apicId: high32(control), vector: (low32(control) >>> 16) & 0xff };
  }

  /** Clears ON and leaves the other bits. */
  clearOutstanding(): void {
    this.#view.set('control', this.#control & ~PI_CONTROL.ON);
  }

  /** Takes all requests and leaves none, the lowest vectors first. */
  takeRequests(): readonly bigint[] {
    return Array.from({ length: WORDS }, (_, word) => {
      const bits = this.#view.get(`pir[${word}]`);
      if (bits !== 0n) this.#view.set(`pir[${word}]`, 0n);
      return bits;
    });
  }

  get #control(): bigint {
    return this.#view.get('control');
  }
}
