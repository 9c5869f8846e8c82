/**
 * The pages of physical memory that may change from here on, and what they held at one moment or another.
 *
 * Source: DESIGN ("Snapshots": registers plus dirty pages plus the plain state of each model).
 * Invariant: exact. A page belongs to the set before its first change: the models' writes come through PhysicalMemory,
 * which tells, and whoever maps a page writable for an engine adds it first. What a page held when it joined is what it
 * held at every image that is older, so an image need not know of pages that joined later.
 * Not modelled: writes past PhysicalMemory's methods; those that change structure end the set (see Machine.snapshot()).
 */
import { PAGE_SIZE, type PhysicalMemory, type WriteFollower } from './physical-memory.js';

/** What the pages of a set held at one moment; equal pages of neighbouring images are one buffer. */
export type PageImages = readonly Uint8Array[];

export class WorkingSet implements WriteFollower {
  readonly #memory: PhysicalMemory;
  /** 1 for each page of memory that belongs to the set. */
  readonly #isMember: Uint8Array;
  readonly #offsets: number[] = [];
  readonly #live: Uint8Array[] = [];
  readonly #joinedWith: Uint8Array[] = [];
  /** The newest image of each page, to be shared by the next one. */
  readonly #newest: Uint8Array[] = [];

  constructor(memory: PhysicalMemory) {
    this.#memory = memory;
    this.#isMember = new Uint8Array(memory.sizeBytes / PAGE_SIZE);
  }

  /** How many pages may change. */
  get pageCount(): number {
    return this.#offsets.length;
  }

  /** [at, at + length) may change from now on. */
  add(at: number, length: number): void {
    const end = Math.floor((at + length - 1) / PAGE_SIZE);
    for (let page = Math.floor(at / PAGE_SIZE); page <= end; page++) {
      if (this.#isMember[page] === 0) this.#join(page);
    }
  }

  beforeWrite(at: number, length: number): void {
    this.add(at, length);
  }

  /** What every page of the set holds now. */
  take(): PageImages {
    for (let index = 0; index < this.#live.length; index++) {
      const live = this.#live[index]!;
      if (Buffer.compare(live, this.#newest[index]!) !== 0) this.#newest[index] = live.slice();
    }
    return this.#newest.slice();
  }

  /** Puts every page back to an image; gives the offsets of those that differed. */
  restore(images: PageImages): number[] {
    const changed: number[] = [];
    for (let index = 0; index < this.#live.length; index++) {
      const wanted = images[index] ?? this.#joinedWith[index]!;
      const live = this.#live[index]!;
      if (Buffer.compare(live, wanted) !== 0) {
        live.set(wanted);
        changed.push(this.#offsets[index]!);
      }
      this.#newest[index] = wanted;
    }
    return changed;
  }

  #join(page: number): void {
    const at = page * PAGE_SIZE;
    const live = this.#memory.bytes.subarray(at, at + PAGE_SIZE);
    const image = live.slice();
    this.#isMember[page] = 1;
    this.#offsets.push(at);
    this.#live.push(live);
    this.#joinedWith.push(image);
    this.#newest.push(image);
  }
}
