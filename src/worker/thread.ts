/** Calls into a thread (or process) that may end or fall silent: they then fail, instead of waiting for ever. */
import type * as Comlink from 'comlink';

/** A started thread. `crashed` resolves, with the reason, when it ends by itself. */
export interface Thread<Api> {
  api: Comlink.Remote<Api>;
  crashed: Promise<string>;
  terminate(): Promise<void>;
}

/** The thread ended or did not answer in time; what was asked of it is lost. */
export class ThreadError extends Error {
  override name = 'ThreadError';
  readonly kind: 'ended' | 'silent';
  constructor(kind: 'ended' | 'silent', message: string) {
    super(message);
    this.kind = kind;
  }
}

export class ThreadCalls<Api> {
  readonly #thread: Thread<Api>;
  /** One for each call that waits: a listener on `crashed` for each would stay for the life of the thread. */
  readonly #waiting = new Set<(error: Error) => void>();
  #ended?: string;

  constructor(thread: Thread<Api>) {
    this.#thread = thread;
    void thread.crashed.then((reason) => this.#end(reason));
  }

  /** Why the thread is no more; undefined while it lives. */
  get ended(): string | undefined {
    return this.#ended;
  }

  /**
   * Sends a call at once (so calls arrive in the order in which they were made) and waits for its answer.
   * @throws ThreadError, or what the thread threw
   */
  call<T>(work: (api: Comlink.Remote<Api>) => PromiseLike<T>, timeoutMs?: number): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#ended !== undefined) throw new ThreadError('ended', this.#ended);
      const answer = work(this.#thread.api);
      let timer: ReturnType<typeof setTimeout> | undefined;
      const forget = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(fail);
      };
      const fail = (error: Error): void => {
        forget();
        reject(error);
      };
      this.#waiting.add(fail);
      if (timeoutMs !== undefined) {
        timer = setTimeout(() => fail(new ThreadError('silent', `no answer for ${timeoutMs} ms`)), timeoutMs);
      }
      answer.then((value) => {
        forget();
        resolve(value);
      }, fail);
    });
  }

  /** Ends the thread; calls that wait fail with `reason`. */
  async terminate(reason: string): Promise<void> {
    this.#end(reason);
    await this.#thread.terminate();
  }

  #end(reason: string): void {
    this.#ended ??= reason;
    for (const fail of this.#waiting) fail(new ThreadError('ended', this.#ended));
  }
}
