/**
 * A list that only grows, until a snapshot takes it back to a length that it had.
 *
 * Invariant: taking a mark costs nothing; what a mark covers is never overwritten, so that later marks stay good when an
 * earlier one is restored.
 */

/** A moment in the life of a log. */
export interface LogMark<Item> {
  readonly items: readonly Item[];
  readonly length: number;
}

export class Log<Item> {
  #items: Item[] = [];
  /** Length that the longest mark on these items covers. */
  #marked = 0;

  /** Everything in it, oldest first. */
  get items(): readonly Item[] {
    return this.#items;
  }

  get length(): number {
    return this.#items.length;
  }

  push(item: Item): void {
    this.#items.push(item);
  }

  mark(): LogMark<Item> {
    this.#marked = Math.max(this.#marked, this.#items.length);
    return { items: this.#items, length: this.#items.length };
  }

  /** Goes back, or forward again, to a mark of this log. */
  restore({ items, length }: LogMark<Item>): void {
    if (items === this.#items && length >= this.#marked) {
      this.#items.length = length;
      return;
    }
    if (items === this.#items && length === this.#items.length) return;
    // A longer mark needs what comes after, or these are the items of another branch.
    this.#items = items.slice(0, length);
    this.#marked = length;
  }
}
