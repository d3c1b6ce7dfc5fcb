/**
 * The door to the engine's thread and the text threads: turns messages into async iterators and promises. The threads
 * themselves are started by node/client.ts or web/client.ts.
 */
import * as Comlink from 'comlink';
import type {
  EngineApi,
  EngineInfo,
  EngineStats,
  GenerateRequest,
  LoadOptions,
  LoadProgress,
  RequestError,
  RequestEvent,
} from '../protocol.ts';
import type { TextClient } from './textClient.ts';
import { GenerateError, type EngineClient, type GenerationEvent } from './types.ts';

export { GenerateError, type EngineClient, type GenerationEvent } from './types.ts';

/** A started engine thread. `crashed` resolves when the thread ends by itself. */
export interface EngineThread {
  api: Comlink.Remote<EngineApi>;
  crashed: Promise<string>;
  terminate(): Promise<void>;
}

/** Loads the model in the engine's thread and returns the client. Ends the threads when loading fails. */
export async function connect(
  thread: EngineThread,
  text: TextClient,
  options: LoadOptions,
  onProgress: (progress: LoadProgress) => void,
): Promise<EngineClient> {
  const streams = new Map<string, EventQueue>();
  let crash: string | undefined;
  void thread.crashed.then((reason) => {
    crash = reason;
    const error: RequestError = { code: 'device_lost', message: `the engine's thread ended: ${reason}` };
    for (const [id, stream] of streams) stream.push({ type: 'error', id, error });
  });
  try {
    await thread.api.events(
      Comlink.proxy((events: RequestEvent[]) => {
        for (const event of events) streams.get(event.id)?.push(event);
      }),
    );
    const crashed = thread.crashed.then((reason) => Promise.reject(new Error(reason)));
    const load = thread.api.load(options, Comlink.proxy(onProgress));
    const [info] = await Promise.all([Promise.race([load, crashed]), text.load(options.model)]);
    return new ThreadClient(info, thread, text, streams, () => crash);
  } catch (error) {
    await Promise.all([thread.terminate(), text.dispose()]);
    throw error;
  }
}

class ThreadClient implements EngineClient {
  readonly info: EngineInfo;
  readonly #thread: EngineThread;
  readonly #text: TextClient;
  readonly #streams: Map<string, EventQueue>;
  readonly #crash: () => string | undefined;

  constructor(
    info: EngineInfo,
    thread: EngineThread,
    text: TextClient,
    streams: Map<string, EventQueue>,
    crash: () => string | undefined,
  ) {
    this.info = info;
    this.#thread = thread;
    this.#text = text;
    this.#streams = streams;
    this.#crash = crash;
  }

  async generate(
    request: Omit<GenerateRequest, 'id'> & { id?: string },
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<AsyncIterable<GenerationEvent>> {
    const crash = this.#crash();
    if (crash !== undefined) throw new GenerateError({ code: 'device_lost', message: crash });
    const id = request.id ?? crypto.randomUUID();
    if (this.#streams.has(id)) {
      throw new GenerateError({ code: 'invalid', param: 'id', message: `request id '${id}' is in use` });
    }
    const queue = new EventQueue();
    this.#streams.set(id, queue);
    const abort = (): void => void this.#thread.api.abort(id);
    try {
      const result = await this.#thread.api.submit({ ...request, id });
      if (!result.accepted) throw new GenerateError(result.error);
    } catch (error) {
      this.#streams.delete(id);
      throw error;
    }
    if (signal?.aborted) abort();
    signal?.addEventListener('abort', abort, { once: true });
    const close = (): void => {
      signal?.removeEventListener('abort', abort);
      if (this.#streams.delete(id) && !queue.ended) abort();
    };
    return iterate(queue, close);
  }

  encode(text: string, options: { addSpecialTokens?: boolean } = {}): Promise<number[]> {
    return this.#text.encode(text, { addSpecialTokens: options.addSpecialTokens ?? true });
  }

  decode(tokenIds: number[], options: { skipSpecialTokens?: boolean } = {}): Promise<string> {
    return this.#text.decode(tokenIds, { skipSpecialTokens: options.skipSpecialTokens ?? false });
  }

  encodeChat(
    ...[messages, options = {}]: Parameters<EngineClient['encodeChat']>
  ): Promise<{ prompt: string; tokenIds: number[] }> {
    return this.#text.encodeChat(messages, { addGenerationPrompt: options.addGenerationPrompt ?? true });
  }

  async stats(timeoutMs = 5000): Promise<EngineStats> {
    const crash = this.#crash();
    if (crash !== undefined) throw new Error(crash);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      const silence = new Error(`the engine's thread has not answered for ${timeoutMs} ms`);
      timer = setTimeout(() => reject(silence), timeoutMs);
    });
    try {
      return await Promise.race([this.#thread.api.stats(), late]);
    } finally {
      clearTimeout(timer);
    }
  }

  async dispose(): Promise<void> {
    const patience = new Promise((resolve) => setTimeout(resolve, 2000));
    if (this.#crash() === undefined) await Promise.race([this.#thread.api.shutdown(), patience]);
    await Promise.all([this.#thread.terminate(), this.#text.dispose()]);
  }
}

/** Events of one request: pushed as they come, pulled one by one. */
class EventQueue {
  ended = false;
  readonly #events: RequestEvent[] = [];
  #waiting?: (event: RequestEvent) => void;

  push(event: RequestEvent): void {
    if (this.ended) return;
    if (event.type !== 'tokens') this.ended = true;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting) waiting(event);
    else this.#events.push(event);
  }

  next(): Promise<RequestEvent> {
    const event = this.#events.shift();
    return event ? Promise.resolve(event) : new Promise((resolve) => (this.#waiting = resolve));
  }
}

async function* iterate(
  queue: EventQueue,
  close: () => void,
): AsyncGenerator<GenerationEvent, void, undefined> {
  try {
    for (;;) {
      const event = await queue.next();
      if (event.type === 'error') throw new GenerateError(event.error);
      yield event;
      if (event.type === 'end') return;
    }
  } finally {
    close();
  }
}
