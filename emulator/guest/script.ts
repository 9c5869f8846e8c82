/**
 * A guest that does exactly what a script says, then what another guest does, if there is one.
 *
 * Source: scenario files; each step is one action.
 * Invariant: steps run in order, once each.
 */
import type { Guest, GuestAction, GuestView } from './guest.js';

interface ScriptState {
  readonly position: number;
  readonly rest: unknown;
}

export class ScriptGuest implements Guest {
  readonly #steps: readonly GuestAction[];
  readonly #rest: Guest | null;
  #position = 0;

  constructor(steps: readonly GuestAction[], rest: Guest | null = null) {
    this.#steps = steps;
    this.#rest = rest;
  }

  next(view: GuestView): GuestAction {
    const step = this.#steps[this.#position];
    if (step === undefined) return this.#rest?.next(view) ?? { kind: 'done' };
    this.#position++;
    return step;
  }

  onEvent(vector: number): void {
    this.#rest?.onEvent(vector);
  }

  state(): ScriptState {
    return { position: this.#position, rest: this.#rest?.state() ?? null };
  }

  restore(state: ScriptState): void {
    this.#position = state.position;
    this.#rest?.restore(state.rest);
  }
}
