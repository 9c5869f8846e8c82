/**
 * How the guests of a scenario behave: the mix of their exits and how many a second, which steps may change.
 *
 * Invariant: a guest's course is a function of the scenario's seed and its vCPU alone.
 */
import type { Guest } from '../../guest/guest.js';
import { MIXES, MixGuest, type MixName } from '../../guest/mix.js';
import type { Scenario } from '../scenario/schema.js';
import { vmsOf } from '../scenario/vms.js';
import { GUEST_MEMORY_PAGES } from '../guest-memory.js';
import { DEVICE } from './vmm.js';

/** A host interrupt that nobody routes: a stray while detached. */
const STRAY_VECTOR = 0xef;

/** What the guest's driver takes to look at its queue: 2 us. */
const HANDLER_TICKS = 4_000;

/** What a step may say of it; what it leaves out stays. */
export interface Load {
  readonly mix?: MixName | undefined;
  readonly rate?: number | undefined;
}

export class GuestLoad {
  readonly #scenario: Scenario;
  readonly #ticksPerSecond: number;
  readonly #guests = new Map<number, MixGuest>();
  #mix: MixName;
  #rate: number;

  constructor(scenario: Scenario, ticksPerSecond: number) {
    this.#scenario = scenario;
    this.#ticksPerSecond = ticksPerSecond;
    this.#mix = scenario.mix;
    this.#rate = scenario.rate;
  }

  /** Makes the guest of a vCPU. */
  guestOf(id: number): Guest {
    const peers = vmsOf(this.#scenario).find(({ vcpus }) => vcpus.includes(id))!.vcpus;
    const others = peers.filter((peer) => peer !== id);
    const guest = new MixGuest({
      mix: MIXES[this.#mix],
      seed: (this.#scenario.seed * 0x1000 + id) >>> 0,
      meanTicks: this.#meanTicks(),
      otherApicIds: others,
      deviceVectors: id === DEVICE.vcpuId ? [DEVICE.hostVector, STRAY_VECTOR] : [STRAY_VECTOR],
      memoryPages: GUEST_MEMORY_PAGES,
      handlerTicks: this.#scenario.device === undefined ? undefined : HANDLER_TICKS,
    });
    this.#guests.set(id, guest);
    return guest;
  }

  /** All guests behave so from now on. */
  follow({ mix, rate }: Load): void {
    this.#mix = mix ?? this.#mix;
    this.#rate = rate ?? this.#rate;
    for (const guest of this.#guests.values()) guest.follow(MIXES[this.#mix], this.#meanTicks());
  }

  #meanTicks(): number {
    return Math.max(1_000, Math.round(this.#ticksPerSecond / Math.max(1, this.#rate)));
  }
}
