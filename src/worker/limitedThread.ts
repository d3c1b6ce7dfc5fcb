/**
 * A thread for untrusted work: calls run one at a time, each under a time limit that counts nothing but the call itself.
 * A thread that breaks its limits is ended and the next call gets a new one, so only the call that did it fails.
 */
import type * as Comlink from 'comlink';
import { ThreadCalls, ThreadError, type Thread } from './thread.ts';

/** Reading a tokenizer of 20 MB on a busy machine takes seconds. */
const PREPARE_MILLISECONDS = 120_000;

export class LimitedThread<Api> {
  readonly #start: () => Thread<Api>;
  readonly #prepare: (api: Comlink.Remote<Api>) => PromiseLike<unknown>;
  #calls?: ThreadCalls<Api>;
  #disposed?: string;
  /** Tail of the queue of calls; never rejects. */
  #queue: Promise<unknown> = Promise.resolve();

  /** `prepare` makes a new thread ready for calls. */
  constructor(start: () => Thread<Api>, prepare: (api: Comlink.Remote<Api>) => PromiseLike<unknown>) {
    this.#start = start;
    this.#prepare = prepare;
  }

  /** Starts the thread; without it the first call does. @throws what made it fail */
  start(): Promise<void> {
    return this.run(async () => {});
  }

  /** @throws ThreadError when the call broke a limit or was cut off by dispose(); else what it threw */
  run<T>(work: (api: Comlink.Remote<Api>) => PromiseLike<T>, limitMs?: number): Promise<T> {
    const turn = this.#queue.then(async () => {
      const calls = await this.#ready();
      try {
        return await calls.call(work, limitMs);
      } catch (error) {
        if (error instanceof ThreadError) this.#drop(calls, error.message);
        throw error;
      }
    });
    this.#queue = turn.catch(() => {}); // its caller hears of it
    return turn;
  }

  async dispose(reason: string): Promise<void> {
    this.#disposed ??= reason;
    await this.#calls?.terminate(reason);
  }

  async #ready(): Promise<ThreadCalls<Api>> {
    if (this.#disposed !== undefined) throw new ThreadError('ended', this.#disposed);
    if (this.#calls && this.#calls.ended === undefined) return this.#calls;
    if (this.#calls) this.#drop(this.#calls, 'it broke between two calls');
    const calls = new ThreadCalls(this.#start());
    this.#calls = calls;
    try {
      await calls.call(this.#prepare, PREPARE_MILLISECONDS);
    } catch (error) {
      this.#drop(calls, 'it could not be made ready');
      // Not a ThreadError: it was not the next call that broke the thread.
      if (error instanceof ThreadError && this.#disposed === undefined) {
        throw new Error(`the thread could not be started: ${error.message}`, { cause: error });
      }
      throw error;
    }
    return calls;
  }

  /** Nobody waits for the end of a broken thread: busy ones take seconds to stop. */
  #drop(calls: ThreadCalls<Api>, reason: string): void {
    if (this.#calls === calls) this.#calls = undefined;
    void calls.terminate(reason).catch(() => {}); // it ended already
  }
}
