/** Who is being answered right now, and how the server stops: no new requests, a grace period, then aborts. */

/** Why a request's signal was aborted. */
export type AbortCause = 'disconnected' | 'slow_reader' | 'sibling_failed' | 'shutdown';

export class Drain {
  #active = new Set<AbortController>();
  #isDraining = false;
  #onIdle: (() => void)[] = [];

  get isDraining(): boolean {
    return this.#isDraining;
  }

  get active(): number {
    return this.#active.size;
  }

  /** Registers a request; `leave` must be called when its answer is complete. */
  enter(controller: AbortController): { leave: () => void } {
    this.#active.add(controller);
    return {
      leave: () => {
        this.#active.delete(controller);
        if (this.#active.size === 0) for (const resolve of this.#onIdle.splice(0)) resolve();
      },
    };
  }

  /** From now on new requests are refused. */
  start(): void {
    this.#isDraining = true;
  }

  /**
   * Waits for the running requests, at most `graceMs`, then aborts the rest and waits for their last words.
   * @returns how many were aborted
   */
  async finish(graceMs: number): Promise<number> {
    this.start();
    await this.#idleWithin(graceMs);
    const aborted = this.#active.size;
    this.abortAll();
    // An aborted request ends within two steps; a dead engine must not keep the process.
    await this.#idleWithin(2000);
    return aborted;
  }

  abortAll(): void {
    for (const controller of this.#active) controller.abort('shutdown' satisfies AbortCause);
  }

  #idleWithin(ms: number): Promise<void> {
    if (this.#active.size === 0 || ms <= 0) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#onIdle.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
}
