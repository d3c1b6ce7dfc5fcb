/**
 * KV pages: who holds which. Bookkeeping only; the pages' contents live on the device.
 *
 * Invariant (checked by `check()`, after every step in test builds): free + held = total, and no page has two holders.
 */

/** A pool of `total` equal pages of `pageSize` tokens. */
export class PagePool {
  readonly total: number;
  readonly pageSize: number;
  /** Free page ids, used as a stack: a page that was just freed is the next one handed out. */
  #free: number[];
  #held: Uint8Array; // 1 while a page has a holder

  constructor(total: number, pageSize: number) {
    if (!Number.isInteger(total) || total < 1 || !Number.isInteger(pageSize) || pageSize < 1) {
      throw new Error(
        `a page pool needs at least one page of at least one token; got ${total} x ${pageSize}`,
      );
    }
    this.total = total;
    this.pageSize = pageSize;
    this.#free = Array.from({ length: total }, (_, i) => total - 1 - i);
    this.#held = new Uint8Array(total);
  }

  get free(): number {
    return this.#free.length;
  }

  get used(): number {
    return this.total - this.#free.length;
  }

  pagesFor(tokens: number): number {
    return Math.ceil(tokens / this.pageSize);
  }

  /** How many more pages `pages` needs to hold `tokens` tokens. */
  missing(pages: readonly number[], tokens: number): number {
    return Math.max(0, this.pagesFor(tokens) - pages.length);
  }

  /** Grows a page table until it holds `tokens` tokens. Ask `missing() <= free` first. @throws Error when it cannot. */
  grow(pages: number[], tokens: number): void {
    const count = this.missing(pages, tokens);
    if (count > this.#free.length) {
      throw new Error(`${count} KV pages are needed and ${this.#free.length} of ${this.total} are free`);
    }
    for (let i = 0; i < count; i++) {
      const page = this.#free.pop()!;
      this.#held[page] = 1;
      pages.push(page);
    }
  }

  /** Gives all pages of a table back and empties it. */
  release(pages: number[]): void {
    for (const page of pages) {
      if (this.#held[page] !== 1) throw new Error(`KV page ${page} was released twice`);
      this.#held[page] = 0;
      this.#free.push(page);
    }
    pages.length = 0;
  }

  /** Conservation check over all page tables that exist. @throws Error with both sides of the sum. */
  check(tables: Iterable<readonly number[]>): void {
    const seen = new Uint8Array(this.total);
    let held = 0;
    for (const table of tables) {
      for (const page of table) {
        if (seen[page]++) throw new Error(`KV page ${page} has two holders`);
        if (!this.#held[page]) throw new Error(`KV page ${page} is in a page table and in the free list`);
        held++;
      }
    }
    if (held + this.free !== this.total) {
      throw new Error(`KV pages are lost: held ${held} + free ${this.free} != total ${this.total}`);
    }
  }
}
